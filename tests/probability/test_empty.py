"""The functions of the empty answer, in probability space; the whole mixture is in tests/inference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mixrag.probability import (
    answered_outside,
    answered_poisoning,
    empty_bounds,
    log_answered_likelihood,
    log_answered_prior,
    log_answered_rows,
    log_empty_probability,
    log_empty_within,
    log_marginal,
    split_first_token,
)

PRIOR = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.0, 0.6]], dtype=torch.float64)  # the second is truncated
EMPTY = torch.tensor([[0.9, 0.2, 0.0], [0.4, 0.5, 1.0]], dtype=torch.float64)
ANSWERED = (1 - EMPTY).log()


def test_the_first_token_is_split_at_the_stop_tokens() -> None:
    probs = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0]])
    empty, answered = split_first_token(probs.log(), torch.tensor([1, 3]))
    assert empty.dtype == answered.dtype == torch.float64
    torch.testing.assert_close(empty.exp(), torch.tensor([0.6, 1.0, 0.0]).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(answered.exp(), torch.tensor([0.4, 0.0, 1.0]).double(), rtol=1e-6, atol=0)
    tiny = torch.tensor([0.0, -1000.0, -1001.0])  # of which 1 - p(∅) would be nothing
    assert float(split_first_token(tiny, torch.tensor([0]))[1]) == pytest.approx(-1000 + math.log1p(math.exp(-1)))


def test_prior_and_probability_are_those_of_bayes_rule() -> None:
    found, total = log_answered_prior(PRIOR.log(), ANSWERED).exp(), log_empty_probability(PRIOR.log(), EMPTY.log())
    for b in range(2):
        outside = 1 - float(PRIOR[b].sum())
        whole = sum(float(PRIOR[b, j] * (1 - EMPTY[b, j])) for j in range(3)) + outside
        for j in range(3):
            expected = float(PRIOR[b, j] * (1 - EMPTY[b, j])) / whole
            assert float(found[b, j]) == pytest.approx(expected, abs=1e-15)
        assert float(total[b].exp()) == pytest.approx(sum(float(PRIOR[b, j] * EMPTY[b, j]) for j in range(3)))
    outside = answered_outside(PRIOR.log(), ANSWERED, torch.tensor([0.0, 0.3]))
    torch.testing.assert_close(found.sum(-1), 1 - outside)


def test_bounds_hold_whatever_the_others_say() -> None:
    """The full mixture has one passage more, of any p(∅ | x, z); the prior given is truncated, or normalised."""
    for b, outside in ((0, 0.0), (0, 0.25), (1, 0.3)):
        prior = [float(p) * (1 - outside) / float(PRIOR[b].sum()) for p in PRIOR[b]]
        inside = math.fsum(p * float(e) for p, e in zip(prior, EMPTY[b], strict=True))
        for given in (PRIOR[b], PRIOR[b] / PRIOR[b].sum()):
            low, high = (float(each) for each in empty_bounds(given.log(), EMPTY[b].log(), outside))
            assert (low, high) == pytest.approx((inside, inside + outside))
            within = float(log_empty_within(given.log(), EMPTY[b].log()).exp())
            assert within == pytest.approx(inside / (1 - outside))
        for other in (0.0, 0.5, 1.0):
            assert low - 1e-12 <= inside + outside * other <= high + 1e-12
    nothing = torch.full((3,), -torch.inf, dtype=torch.float64)
    assert float(log_empty_within(nothing, EMPTY[0].log())) == -math.inf


def test_the_conditional_prior_is_undefined_where_all_are_certain_and_finite_where_nearly_all_are() -> None:
    certain = torch.full((3,), -torch.inf, dtype=torch.float64)
    assert log_answered_prior(PRIOR[0].log(), certain).tolist() == [-math.inf] * 3
    near = torch.full((3,), -2000.0, dtype=torch.float64)  # e^-2000 is no float
    torch.testing.assert_close(log_answered_prior(PRIOR[0].log(), near).exp(), PRIOR[0])
    assert float(answered_outside(PRIOR[0].log(), near, 0.01)) == 1.0
    assert float(answered_outside(PRIOR[0].log(), certain, 0.0)) == 0.0


@pytest.mark.parametrize("padded", [False, True])
def test_the_first_token_of_the_answer_is_divided(padded: bool) -> None:
    table = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log()
    mask = torch.tensor([[True] * 3 + [False], [False, True, True, False]]) if padded else None
    divisor = torch.rand(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).log()
    found = log_answered_likelihood(table, divisor, mask)
    first = [0, 1] if padded else [0, 0]
    for b in range(2):
        for t in range(4):
            expected = table[b, :, t] - (divisor[b] if t == first[b] else 0.0)
            torch.testing.assert_close(found[b, :, t], expected)


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_at_one_token_the_joint_with_something_stated_is_the_likelihood_as_it_was(switch: float) -> None:
    e = torch.tensor([[0.05], [0.6], [0.3]], dtype=torch.float64)
    prior, likelihood = (
        log_answered_prior(PRIOR[0].log(), ANSWERED[0]),
        log_answered_likelihood(e.log(), ANSWERED[0]),
    )
    stated = 1 - float((PRIOR[0] * EMPTY[0]).sum())
    joint = float(log_marginal(prior, likelihood, switch).exp()) * stated
    assert joint == pytest.approx(float((PRIOR[0] * e[:, 0]).sum()))


def test_rows_are_distributions_without_stop_tokens_and_certain_ones_stay() -> None:
    probs = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.0, 0.5]]).log()
    stops = torch.tensor([1, 3])
    rows = log_answered_rows(probs, split_first_token(probs, stops)[1], stops).exp()
    torch.testing.assert_close(rows, torch.tensor([[0.25, 0.0, 0.75, 0.0], [0.0, 0.5, 0.0, 0.5]]))
    assert rows.dtype == probs.dtype


@pytest.mark.parametrize("outside", [0.0, 0.1, 0.7])
def test_the_mass_outside_is_largest_where_the_others_answer_all(outside: float) -> None:
    prior = PRIOR[0].log() + math.log1p(-outside)
    inside = float((PRIOR[0] * (1 - EMPTY[0])).sum()) * (1 - outside)
    bound = float(answered_outside(prior, ANSWERED[0], outside))
    shown = float(answered_outside(PRIOR[0].log(), ANSWERED[0], outside))  # top-k: the share is the same
    assert bound == pytest.approx(shown)
    true = [outside * a / (inside + outside * a) for a in torch.linspace(0, 1, 11).tolist()]
    assert max(true) == pytest.approx(bound) and all(each <= bound + 1e-15 for each in true)


def test_the_poisoned_prior_is_the_largest_that_a_text_can_reach() -> None:
    bound = answered_poisoning(PRIOR[0].log(), ANSWERED[0])
    for j in range(3):
        reached: list[Tensor] = []
        for own in torch.linspace(0, 1, 21).double():
            changed = (1 - EMPTY[0]).index_fill(0, torch.tensor(j), float(own)).log()
            reached.append(log_answered_prior(PRIOR[0].log(), changed)[j].exp())
        assert float(torch.stack(reached).max()) == pytest.approx(float(bound[j]))
    assert float(answered_poisoning(PRIOR[1].log(), ANSWERED[1])[1]) == 0.0


def test_gradients_are_finite_where_a_passage_is_certain_of_nothing() -> None:
    prior = PRIOR[0].log().requires_grad_()
    log_answered_prior(prior, torch.tensor([-torch.inf, -0.5, -1.0]).double())[1].backward()
    assert prior.grad is not None and bool(prior.grad.isfinite().all())
