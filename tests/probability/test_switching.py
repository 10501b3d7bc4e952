"""The switching mixture against enumeration of every hidden path."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from enumeration import Toy, switches, toys
from mixrag.probability import (
    expected_draws,
    log_backward,
    log_filter,
    log_forward,
    log_marginal,
    log_mix,
    log_normalise,
    log_posterior,
    log_predictive_weights,
    log_smoothing,
)

TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}
quick = settings(max_examples=60, deadline=None)


def some_answer(toy: Toy) -> tuple[int, ...]:
    return toy.answers()[toy.seed % toy.vocabulary**toy.length]


@quick
@given(toys(), switches)
def test_log_marginal_is_the_sum_over_hidden_paths(toy: Toy, switch: float) -> None:
    answer = some_answer(toy)
    value = log_marginal(toy.log_prior, toy.log_likelihood(answer), switch).exp()
    torch.testing.assert_close(value.item(), toy.probability(answer, switch), **TOLERANCE)


@quick
@given(toys(), switches)
def test_closed_forms_equal_the_forward_recursion(toy: Toy, switch: float) -> None:
    log_likelihood = toy.log_likelihood(some_answer(toy))
    forward = log_forward(toy.log_prior, log_likelihood, switch)[..., -1].logsumexp(-1)
    torch.testing.assert_close(log_marginal(toy.log_prior, log_likelihood, switch), forward, **TOLERANCE)


@pytest.mark.parametrize("switch", [0.0, 0.2, 0.7, 1.0])
def test_probabilities_of_all_answers_sum_to_one(switch: float) -> None:
    toy = Toy([0.5, 0.3, 0.2], seed=1, vocabulary=3, length=4)
    likelihoods = torch.stack([toy.log_likelihood(answer) for answer in toy.answers()])
    total = log_marginal(toy.log_prior, likelihoods, switch).exp().sum()
    torch.testing.assert_close(total.item(), 1.0, **TOLERANCE)


@quick
@given(toys(components=1), switches)
def test_one_component_has_no_switch(toy: Toy, switch: float) -> None:
    log_likelihood = toy.log_likelihood(some_answer(toy))
    torch.testing.assert_close(
        log_marginal(toy.log_prior, log_likelihood, switch), log_likelihood.sum(), **TOLERANCE
    )


@quick
@given(toys(length=1), switches)
def test_one_token_answers_keep_their_prior_at_every_switch(toy: Toy, switch: float) -> None:
    answer = some_answer(toy)
    expected = math.fsum(p * toy.token_probability(j, answer, 0) for j, p in enumerate(toy.prior))
    value = log_marginal(toy.log_prior, toy.log_likelihood(answer), switch).exp().item()
    torch.testing.assert_close(value, expected, **TOLERANCE)


@quick
@given(toys(), switches)
def test_predictive_weights_mix_the_next_token(toy: Toy, switch: float) -> None:
    answer = some_answer(toy)
    weights = log_predictive_weights(toy.log_prior, toy.log_likelihood(answer), switch)
    assert weights.shape == (len(toy.prior), toy.length + 1)
    for t in range(toy.length):
        laws = torch.tensor([toy.next_token(j, answer[:t]) for j in range(len(toy.prior))]).double()
        mixed = log_mix(weights[:, t], laws.log()).exp()
        before = toy.probability(answer[:t], switch)
        for token in range(toy.vocabulary):
            expected = toy.probability((*answer[:t], token), switch) / before
            torch.testing.assert_close(mixed[token].item(), expected, rtol=1e-6, atol=1e-7)


@quick
@given(toys(least=2), switches)
def test_mixed_tokens_of_a_truncated_prior_multiply_to_its_marginal(toy: Toy, switch: float) -> None:
    likelihood = toy.log_likelihood(some_answer(toy))[:-1]
    prior = toy.log_prior[:-1]
    assume(prior.exp().sum() > 1e-6)
    weights = log_predictive_weights(prior, likelihood, switch)[:, :-1]
    total = (weights + likelihood).logsumexp(0).sum()
    torch.testing.assert_close(total, log_marginal(prior, likelihood, switch), **TOLERANCE)


@pytest.mark.parametrize("switch", [0.0, 0.5, 1.0])
def test_padding_before_an_answer_changes_nothing(switch: float) -> None:
    prior = torch.tensor([0.3, 0.2], dtype=torch.float64).log()
    likelihood = torch.tensor([[0.5, 0.1], [0.2, 0.8]], dtype=torch.float64).log()
    padded = torch.cat([torch.full((2, 1), -7.0, dtype=torch.float64), likelihood], -1)
    mask = torch.tensor([False, True, True])
    weights = log_predictive_weights(prior, padded, switch, mask)[:, 1:-1]
    total = (weights + likelihood).logsumexp(0).sum()
    torch.testing.assert_close(total, log_marginal(prior, likelihood, switch), **TOLERANCE)
    torch.testing.assert_close(log_marginal(prior, padded, switch, mask), total, **TOLERANCE)


def test_draws_are_counted_for_each_row_of_a_mask() -> None:
    prior, likelihood = torch.tensor([0.6, 0.4]).log(), torch.tensor([[0.5, 0.1], [0.2, 0.8]]).log()
    mask = torch.tensor([[True, True], [True, False]])
    draws = expected_draws(prior, likelihood, 1.0, mask)
    assert draws.shape == (2, 2)
    torch.testing.assert_close(draws.sum(-1), torch.tensor([2.0, 1.0]))


@quick
@given(toys(), switches)
def test_filter_is_the_posterior_of_the_prefix(toy: Toy, switch: float) -> None:
    answer = some_answer(toy)
    filtered = log_filter(toy.log_prior, toy.log_likelihood(answer), switch).exp()
    for t in range(toy.length):
        joint = toy.joint(answer[: t + 1], switch)
        for j in range(len(toy.prior)):
            expected = math.fsum(p for path, p in joint.items() if path[-1] == j) / math.fsum(joint.values())
            torch.testing.assert_close(filtered[j, t].item(), expected, **TOLERANCE)


@quick
@given(toys(), switches)
def test_smoothing_is_the_marginal_of_the_enumerated_joint(toy: Toy, switch: float) -> None:
    answer = some_answer(toy)
    smoothed = log_smoothing(toy.log_prior, toy.log_likelihood(answer), switch).exp()
    posterior = log_posterior(toy.log_prior, toy.log_likelihood(answer), switch).exp()
    joint = toy.joint(answer, switch)
    total = math.fsum(joint.values())
    for j in range(len(toy.prior)):
        for t in range(toy.length):
            expected = math.fsum(p for path, p in joint.items() if path[t] == j) / total
            torch.testing.assert_close(smoothed[j, t].item(), expected, **TOLERANCE)
        shares = math.fsum(p * path.count(j) / toy.length for path, p in joint.items()) / total
        torch.testing.assert_close(posterior[j].item(), shares, **TOLERANCE)


@quick
@given(toys(), switches)
def test_forward_times_backward_is_the_marginal_at_every_token(toy: Toy, switch: float) -> None:
    log_likelihood = toy.log_likelihood(some_answer(toy))
    alpha = log_forward(toy.log_prior, log_likelihood, switch)
    beta = log_backward(toy.log_prior, log_likelihood, switch)
    everywhere = (alpha + beta).logsumexp(-2)
    expected = log_marginal(toy.log_prior, log_likelihood, switch).expand_as(everywhere)
    torch.testing.assert_close(everywhere, expected, **TOLERANCE)


@quick
@given(toys(zeros=False), st.integers(0, 999))
def test_gradient_in_the_scores_is_posterior_minus_prior(toy: Toy, shift: int) -> None:
    scores = (toy.log_prior + shift / 100).requires_grad_()
    log_likelihood = toy.log_likelihood(some_answer(toy))
    log_marginal(scores.log_softmax(-1), log_likelihood, 0.0).backward()
    posterior = log_posterior(toy.log_prior, log_likelihood, 0.0).exp()
    torch.testing.assert_close(scores.grad, posterior - toy.log_prior.exp(), rtol=1e-7, atol=1e-10)


@quick
@given(toys(zeros=False), switches)
def test_gradient_in_the_scores_counts_draws_at_every_switch(toy: Toy, switch: float) -> None:
    scores = toy.log_prior.clone().requires_grad_()
    log_likelihood = toy.log_likelihood(some_answer(toy))
    log_marginal(scores.log_softmax(-1), log_likelihood, switch).backward()
    draws = expected_draws(toy.log_prior, log_likelihood, switch)
    torch.testing.assert_close(scores.grad, draws - toy.log_prior.exp() * draws.sum(), rtol=1e-7, atol=1e-10)
    if switch == 0.0:
        posterior = log_posterior(toy.log_prior, log_likelihood, 0.0).exp()
        torch.testing.assert_close(draws, posterior, **TOLERANCE)
    if switch == 1.0:
        smoothed = log_smoothing(toy.log_prior, log_likelihood, 1.0).exp().sum(-1)
        torch.testing.assert_close(draws, smoothed, **TOLERANCE)


@quick
@given(st.lists(toys(components=3, vocabulary=2, length=4), min_size=2, max_size=4), switches)
def test_ragged_answers_in_one_batch_equal_one_by_one(batch: list[Toy], switch: float) -> None:
    components = max(len(toy.prior) for toy in batch)
    length = max(toy.length for toy in batch)
    prior = torch.full((len(batch), components), -math.inf, dtype=torch.float64)
    likelihood = torch.full((len(batch), components, length), -3.0, dtype=torch.float64)
    mask = torch.zeros(len(batch), length, dtype=torch.bool)
    for b, toy in enumerate(batch):
        prior[b, : len(toy.prior)] = toy.log_prior
        likelihood[b, : len(toy.prior), : toy.length] = toy.log_likelihood(some_answer(toy))
        mask[b, : toy.length] = True
    marginal = log_marginal(prior, likelihood, switch, mask)
    smoothed = log_smoothing(prior, likelihood, switch, mask).exp()
    posterior = log_posterior(prior, likelihood, switch, mask).exp()
    for b, toy in enumerate(batch):
        alone = toy.log_likelihood(some_answer(toy))
        size = len(toy.prior)
        torch.testing.assert_close(marginal[b], log_marginal(toy.log_prior, alone, switch), **TOLERANCE)
        torch.testing.assert_close(
            smoothed[b, :size, : toy.length], log_smoothing(toy.log_prior, alone, switch).exp(), **TOLERANCE
        )
        torch.testing.assert_close(
            posterior[b, :size], log_posterior(toy.log_prior, alone, switch).exp(), **TOLERANCE
        )
        assert smoothed[b, size:].sum() == 0 and smoothed[b, :, toy.length :].sum() == 0


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_an_empty_answer_has_probability_one(switch: float) -> None:
    prior = torch.tensor([0.6, 0.4]).log()
    assert log_marginal(prior, torch.zeros(2, 0), switch).item() == pytest.approx(0.0, abs=1e-6)
    padded = log_marginal(prior, torch.full((2, 3), -1.0), switch, torch.zeros(3, dtype=torch.bool))
    assert padded.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_zero_priors_and_impossible_tokens_keep_gradients_finite(switch: float) -> None:
    scores = torch.tensor([1.0, -math.inf, 0.5], dtype=torch.float64, requires_grad=True)
    likelihood = torch.tensor([[0.5, 0.5], [0.9, 0.9], [0.2, 0.0]], dtype=torch.float64).log().requires_grad_()
    value = log_marginal(log_normalise(scores, -1), likelihood, switch)
    value.backward()
    assert value.isfinite() and scores.grad.isfinite().all() and likelihood.grad.isfinite().all()
    assert scores.grad[1] == 0.0


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_an_impossible_answer_has_log_probability_minus_infinity_and_finite_gradients(switch: float) -> None:
    scores = torch.zeros(2, requires_grad=True)
    value = log_marginal(scores.log_softmax(-1), torch.full((2, 3), -math.inf), switch)
    value.backward()
    assert value == -math.inf and scores.grad.isfinite().all()


def test_long_answers_do_not_underflow() -> None:
    prior = torch.tensor([0.5, 0.5]).log()
    likelihood = torch.full((2, 4000), -8.0)
    for switch in (0.0, 0.5, 1.0):
        assert log_marginal(prior, likelihood, switch).item() == pytest.approx(-32_000.0, rel=1e-5)
        smoothed = log_smoothing(prior, likelihood, switch).exp()
        torch.testing.assert_close(smoothed, torch.full_like(smoothed, 0.5), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("switch", [-0.1, 1.1, math.nan])
def test_a_switch_outside_its_range_is_refused(switch: float) -> None:
    with pytest.raises(ValueError, match=r"switch in \[0, 1\]"):
        log_marginal(torch.zeros(1), torch.zeros(1, 1), switch)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="log_likelihood"):
        log_marginal(torch.zeros(3), torch.zeros(2, 5), 0.0)
    with pytest.raises(ValueError, match="mask"):
        log_marginal(torch.zeros(2), torch.zeros(2, 5), 0.0, torch.ones(4, dtype=torch.bool))


@quick
@given(toys(), st.floats(0.01, 0.99))
def test_a_small_switch_change_is_a_small_change_of_probability(toy: Toy, switch: float) -> None:
    assume(toy.length > 1)
    log_likelihood = toy.log_likelihood(some_answer(toy))
    near = log_marginal(toy.log_prior, log_likelihood, min(1.0, switch + 1e-9))
    torch.testing.assert_close(log_marginal(toy.log_prior, log_likelihood, switch), near, rtol=1e-6, atol=1e-6)
