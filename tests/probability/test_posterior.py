"""Leave-one-out, effective number and evidence ratio against their definitions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from test_switching import TOLERANCE, some_answer
from torch import Tensor

from enumeration import Toy, switches, toys
from mixrag.probability import (
    effective_number,
    log_answer_likelihood,
    log_difference,
    log_evidence_ratio,
    log_leave_one_out,
    log_marginal,
    log_posterior,
    log_prior_to_lead,
    log_sum_others,
    posterior,
)

quick = settings(max_examples=60, deadline=None)


@quick
@given(toys(), switches)
def test_leave_one_out_is_the_enumerated_mixture_without_the_passage(toy: Toy, switch: float) -> None:
    answer = some_answer(toy)
    values = log_leave_one_out(toy.log_prior, toy.log_likelihood(answer), switch).exp()
    for j in range(len(toy.prior)):
        rest = math.fsum(p for i, p in enumerate(toy.prior) if i != j)
        if rest == 0.0:
            assert values[j] == 0.0
            continue
        prior = [0.0 if i == j else p / rest for i, p in enumerate(toy.prior)]
        without = Toy(prior, toy.seed, toy.vocabulary, toy.length)
        torch.testing.assert_close(values[j].item(), without.probability(answer, switch), rtol=1e-7, atol=1e-12)


@quick
@given(toys(least=2, zeros=False), switches)
def test_leave_one_out_of_a_truncated_prior_keeps_the_mass_outside(toy: Toy, switch: float) -> None:
    """The last passage is outside: as if it gave every answer probability zero."""
    answer = some_answer(toy)
    values = log_leave_one_out(toy.log_prior[:-1], toy.log_likelihood(answer)[:-1], switch).exp()
    outside = len(toy.prior) - 1
    for j in range(outside):
        prior = [0.0 if i == j else p / (1 - toy.prior[j]) for i, p in enumerate(toy.prior)]
        joint = Toy(prior, toy.seed, toy.vocabulary, toy.length).joint(answer, switch)
        expected = math.fsum(p for path, p in joint.items() if outside not in path)
        torch.testing.assert_close(values[j].item(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_leave_one_out_has_finite_gradients_at_zero_priors(switch: float) -> None:
    prior = torch.tensor([-0.7, -0.8, -math.inf], dtype=torch.float64, requires_grad=True)
    likelihood = torch.full((3, 2), -1.0, dtype=torch.float64, requires_grad=True)
    log_leave_one_out(prior, likelihood, switch).exp().sum().backward()
    assert prior.grad.isfinite().all() and likelihood.grad.isfinite().all()


def test_leave_one_out_of_ragged_answers_ignores_padding() -> None:
    toy = Toy([0.5, 0.3, 0.2], seed=3, vocabulary=3, length=3)
    likelihood = toy.log_likelihood((0, 2, 1))
    padded = torch.cat([likelihood, torch.full((3, 2), -9.0, dtype=torch.float64)], -1)
    mask = torch.tensor([True, True, True, False, False])
    for switch in (0.0, 0.4, 1.0):
        torch.testing.assert_close(
            log_leave_one_out(toy.log_prior, padded, switch, mask),
            log_leave_one_out(toy.log_prior, likelihood, switch),
            **TOLERANCE,
        )


@pytest.mark.parametrize("together", [1, 1 << 7, 1 << 21])
def test_leave_one_out_runs_its_recursions_together(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """Of two ragged answers, each with its ρ after each token: as one recursion after the other."""
    calls = list[int]()

    def counted(prior: Tensor, *arguments: Any) -> Tensor:
        calls.append(prior.shape[-2])
        return log_marginal(prior, *arguments)

    monkeypatch.setattr(posterior, "log_marginal", counted)
    monkeypatch.setattr(posterior, "_TOGETHER", together)
    random = torch.Generator().manual_seed(0)
    weights = torch.rand(2, 4, generator=random, dtype=torch.float64)
    log_prior = (weights / weights.sum(-1, keepdim=True)).log()
    likelihood = torch.rand(2, 4, 5, generator=random, dtype=torch.float64).log()
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    for switch in (0.3, torch.tensor([0.0, 0.6, 0.0, 0.2, 0.1]), torch.tensor([[0.0, 0.6, 0, 0, 0], [0.4] * 5])):
        calls.clear()
        found = log_leave_one_out(log_prior, likelihood, switch, mask)
        assert calls == {1: [1] * 4, 1 << 7: [3, 1], 1 << 21: [4]}[together]
        for j in range(4):
            others = log_prior.masked_fill(torch.arange(4) == j, -math.inf)
            others = others - others.logsumexp(-1, keepdim=True)
            torch.testing.assert_close(found[:, j], log_marginal(others, likelihood, switch, mask), **TOLERANCE)


def test_leave_one_out_keeps_its_digits_where_one_passage_has_nearly_all_the_mass() -> None:
    prior = torch.tensor([1 - 1e-6, 1e-6]).log()
    likelihood = torch.tensor([[0.0], [-30.0]])
    value = log_leave_one_out(prior, likelihood, 0.0)[0].item()
    assert value == pytest.approx(-30.0, rel=1e-6)


def test_effective_number_counts_equal_weights_and_ignores_zeros() -> None:
    assert effective_number(torch.zeros(7)).item() == pytest.approx(7.0)
    assert effective_number(torch.tensor([0.0, -math.inf, -math.inf])).item() == pytest.approx(1.0)
    half = torch.tensor([0.5, 0.25, 0.25]).log()
    assert effective_number(half).item() == pytest.approx(2**1.5)


def test_effective_number_has_finite_gradients_at_zero_weights() -> None:
    weights = torch.tensor([0.2, -math.inf, -1.0], requires_grad=True)
    effective_number(weights).backward()
    assert weights.grad.isfinite().all()


def test_log_sum_others_is_the_sum_without_one() -> None:
    values = torch.tensor([[0.1, 0.2, 0.7], [0.0, 1.0, 0.0]], dtype=torch.float64)
    expected = values.sum(-1, keepdim=True) - values
    torch.testing.assert_close(log_sum_others(values.log(), -1).exp(), expected)
    torch.testing.assert_close(log_sum_others(values.log().T, 0).exp(), expected.T)


def test_an_evidence_ratio_with_zero_is_not_defined() -> None:
    impossible = torch.tensor([[-torch.inf, -1.0], [-0.5, -0.5]])
    ratio = log_evidence_ratio(impossible, torch.tensor([-1.0, -1.0]))
    assert ratio.isnan().tolist() == [True, False] and float(ratio[1]) == 1.0
    assert log_evidence_ratio(impossible, torch.tensor([-1.0, -torch.inf])).isnan().all()


def test_evidence_ratio_compares_with_the_model_alone() -> None:
    likelihood = torch.tensor([[0.5, 0.5], [0.1, 0.2]]).log()
    alone = torch.tensor([0.25, 0.4]).log()
    ratio = log_evidence_ratio(likelihood, alone).exp()
    torch.testing.assert_close(ratio, torch.tensor([2.5, 0.2]))


def test_posterior_without_tokens_is_the_prior() -> None:
    prior = torch.tensor([0.9, 0.1]).log()
    for switch in (0.0, 0.5, 1.0):
        torch.testing.assert_close(log_posterior(prior, torch.zeros(2, 0), switch), prior)
        nothing = torch.zeros(3, dtype=torch.bool)
        torch.testing.assert_close(log_posterior(prior, torch.zeros(2, 3), switch, nothing), prior)


def test_posterior_moves_towards_the_passage_that_explains_the_answer() -> None:
    prior = torch.tensor([0.5, 0.5]).log()
    likelihood = torch.tensor([[0.9, 0.9], [0.1, 0.1]]).log()
    assert log_posterior(prior, likelihood, 0.0).exp()[0].item() == pytest.approx(0.81 / 0.82)
    assert log_marginal(prior, likelihood, 0.0).exp().item() == pytest.approx(0.41)


@quick
@given(toys(least=2))
def test_the_prior_to_lead_is_where_two_answers_tie(toy: Toy) -> None:
    """Plugged into the mixture at switch 0, the others sharing the rest in their proportions."""
    prior = toy.log_prior.exp()
    answer, rival = (
        log_answer_likelihood(toy.log_likelihood(some_answer(t))) for t in (toy, replace(toy, seed=toy.seed + 1))
    )
    needed = log_prior_to_lead(toy.log_prior, answer, rival)
    for j in range(len(prior)):
        rest = math.fsum(p for i, p in enumerate(prior.tolist()) if i != j)
        if rest < 1e-9:
            continue

        def lead(share: float, j: int = j, rest: float = rest) -> float:
            moved = prior * (1 - share) / rest
            moved[j] = share
            return float((moved * (answer.exp() - rival.exp())).sum())

        if needed[j] == -math.inf:
            assert lead(0.0) >= -1e-12
        elif needed[j] == math.inf:
            assert max(lead(share) for share in (0.0, 0.5, 1.0)) <= 1e-12
        else:
            share = math.exp(needed[j])
            assert lead(share) == pytest.approx(0.0, abs=1e-12)
            assert lead(share * 0.99) < 0 < lead(share + 0.01 * (1 - share)) or share > 1 - 1e-9


def test_the_prior_to_lead_counts_what_a_truncated_prior_leaves_out() -> None:
    prior = torch.tensor([0.1, 0.3], dtype=torch.float64)  # 0.6 is elsewhere and gives nothing to either
    answer, rival = torch.tensor([0.5, 0.1], dtype=torch.float64), torch.tensor([0.2, 0.4], dtype=torch.float64)
    share = log_prior_to_lead(prior.log(), answer.log(), rival.log()).exp()[0]
    other = 0.3 / 0.9 * (1 - share)
    assert float(share * 0.5 + other * 0.1) == pytest.approx(float(share * 0.2 + other * 0.4))


def test_a_difference_of_logs_keeps_its_digits_and_its_zero() -> None:
    x = torch.tensor([-800.0, -1.0, -1.0, -math.inf, -1.0], dtype=torch.float64)
    y = torch.tensor([-801.0, -1.0 - 1e-9, -1.0, -math.inf, -math.inf], dtype=torch.float64)
    expected = [-800.0 + math.log1p(-math.exp(-1)), -1.0 + math.log(1e-9), -math.inf, -math.inf, -1.0]
    assert log_difference(x, y).tolist() == pytest.approx(expected, rel=1e-6)
