"""ρ that differs between tokens, against enumeration of every hidden path."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_switching import TOLERANCE, some_answer

from enumeration import Toy, switches, toys
from mixrag.probability import (
    escape_mass,
    expected_draws,
    log_backward,
    log_filter,
    log_forward,
    log_leave_one_out,
    log_marginal,
    log_mix,
    log_posterior,
    log_predictive_weights,
    log_smoothing,
    log_truncation_bracket,
    next_token_tv,
    truncation_tv,
)

quick = settings(max_examples=25, deadline=None)
SLACK = 1e-9
chances = st.lists(st.sampled_from([0.0, 1.0]) | st.floats(0.0, 1.0), min_size=4, max_size=4)


def double(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@quick
@given(toys(), chances)
def test_all_functions_are_sums_over_hidden_paths(toy: Toy, rho: list[float]) -> None:
    answer, rho = some_answer(toy), rho[: toy.length]
    table, switch = (toy.log_prior, toy.log_likelihood(answer)), double(rho)
    joint = toy.joint(answer, rho)
    total = math.fsum(joint.values())
    torch.testing.assert_close(log_marginal(*table, switch).exp().item(), total, **TOLERANCE)
    smoothed, posterior = log_smoothing(*table, switch).exp(), log_posterior(*table, switch).exp()
    filtered, draws = log_filter(*table, switch).exp(), expected_draws(*table, switch)
    without = log_leave_one_out(*table, switch).exp()
    everywhere = (log_forward(*table, switch) + log_backward(*table, switch)).logsumexp(0)
    torch.testing.assert_close(everywhere.exp(), torch.full_like(everywhere, total), **TOLERANCE)
    for j in range(len(toy.prior)):
        shares = math.fsum(p * path.count(j) / toy.length for path, p in joint.items()) / total
        torch.testing.assert_close(posterior[j].item(), shares, **TOLERANCE)
        torch.testing.assert_close(draws[j].item(), enumerated_draws(toy, answer, rho, j), rtol=1e-7, atol=1e-10)
        if (rest := 1 - toy.prior[j]) > 1e-6:
            others = Toy(
                [0.0 if i == j else p / rest for i, p in enumerate(toy.prior)],
                toy.seed,
                toy.vocabulary,
                toy.length,
            )
            torch.testing.assert_close(without[j].item(), others.probability(answer, rho), rtol=1e-7, atol=1e-12)
        for t in range(toy.length):
            expected = math.fsum(p for path, p in joint.items() if path[t] == j) / total
            torch.testing.assert_close(smoothed[j, t].item(), expected, **TOLERANCE)
            before = toy.joint(answer[: t + 1], rho)
            live = math.fsum(p for path, p in before.items() if path[-1] == j) / math.fsum(before.values())
            torch.testing.assert_close(filtered[j, t].item(), live, **TOLERANCE)


def enumerated_draws(toy: Toy, answer: tuple[int, ...], rho: list[float], j: int) -> float:
    """E[draws of j | answer], with which tokens draw again enumerated as well."""
    weighed = total = 0.0
    for path in toy.paths(len(answer)):
        emitted = math.prod(toy.token_probability(z, answer, t) for t, z in enumerate(path))
        for drawn in itertools.product((False, True), repeat=len(answer) - 1):
            p = toy.prior[path[0]] * emitted
            for t, again in enumerate(drawn):
                p *= rho[t] * toy.prior[path[t + 1]] if again else (1 - rho[t]) * (path[t] == path[t + 1])
            total += p
            weighed += p * sum(z == j for z, again in zip(path, (True, *drawn), strict=True) if again)
    return weighed / total


@quick
@given(toys(), chances)
def test_predictive_weights_mix_every_next_token(toy: Toy, rho: list[float]) -> None:
    answer, rho = some_answer(toy), rho[: toy.length]
    weights = log_predictive_weights(toy.log_prior, toy.log_likelihood(answer), double(rho))
    for t in range(toy.length + 1):
        laws = torch.tensor([toy.next_token(j, answer[:t]) for j in range(len(toy.prior))]).double()
        mixed = log_mix(weights[:, t], laws.log()).exp()
        for token in range(toy.vocabulary):
            expected = toy.probability((*answer[:t], token), rho) / toy.probability(answer[:t], rho)
            torch.testing.assert_close(mixed[token].item(), expected, rtol=1e-6, atol=1e-7)


@quick
@given(toys(), switches)
def test_equal_chances_are_one_switch(toy: Toy, switch: float) -> None:
    answer = some_answer(toy)
    equal = torch.full((toy.length,), switch, dtype=torch.float64)
    for function in (log_marginal, log_posterior, log_smoothing, log_predictive_weights, log_leave_one_out):
        one = function(toy.log_prior, toy.log_likelihood(answer), switch)
        torch.testing.assert_close(function(toy.log_prior, toy.log_likelihood(answer), equal), one)


@quick
@given(toys(components=3), toys(components=3), chances)
def test_rows_of_a_batch_have_chances_of_their_own(one: Toy, two: Toy, rho: list[float]) -> None:
    size, length = max(len(one.prior), len(two.prior)), max(one.length, two.length)
    prior = torch.full((2, size), -math.inf, dtype=torch.float64)
    table = torch.full((2, size, length), -3.0, dtype=torch.float64)
    mask, switch = torch.zeros(2, length, dtype=torch.bool), torch.full((2, length), 0.5, dtype=torch.float64)
    chosen = (double(rho), double(rho[::-1]))
    for b, toy in enumerate((one, two)):
        prior[b, : len(toy.prior)] = toy.log_prior
        table[b, : len(toy.prior), -toy.length :] = toy.log_likelihood(some_answer(toy))
        mask[b, -toy.length :] = True  # padding is before the answer
        switch[b, -toy.length :] = chosen[b][: toy.length]
    marginal, smoothed = log_marginal(prior, table, switch, mask), log_smoothing(prior, table, switch, mask).exp()
    for b, toy in enumerate((one, two)):
        alone = toy.log_prior, toy.log_likelihood(some_answer(toy)), chosen[b][: toy.length]
        torch.testing.assert_close(marginal[b], log_marginal(*alone), **TOLERANCE)
        own = smoothed[b, : len(toy.prior), -toy.length :]
        torch.testing.assert_close(own, log_smoothing(*alone).exp(), **TOLERANCE)


def test_padding_within_and_after_an_answer_does_not_draw() -> None:
    prior, table = double([0.3, 0.7]).log(), double([[0.5, 0.1, 0.4], [0.2, 0.8, 0.3]]).log()
    switch = double([0.9, 0.2, 0.6])
    places = [0, 2, 3]
    padded, mask = torch.full((2, 5), -7.0, dtype=torch.float64), torch.zeros(5, dtype=torch.bool)
    padded[:, places], mask[places] = table, True
    wide = torch.ones(5, dtype=torch.float64)
    wide[places] = switch
    torch.testing.assert_close(log_marginal(prior, padded, wide, mask), log_marginal(prior, table, switch))
    smoothed = log_smoothing(prior, padded, wide, mask)[:, places]
    torch.testing.assert_close(smoothed, log_smoothing(prior, table, switch))


def test_zero_chances_and_impossible_tokens_keep_gradients_finite() -> None:
    scores = torch.tensor([1.0, -math.inf, 0.5], dtype=torch.float64, requires_grad=True)
    table = double([[0.5, 0.5, 0.5], [0.9, 0.9, 0.9], [0.2, 0.0, 0.1]]).log().requires_grad_()
    value = log_marginal(scores.log_softmax(-1), table, double([0.0, 1.0, 0.5]))
    value.backward()
    assert value.isfinite() and table.grad is not None and table.grad.isfinite().all()


def test_chances_of_another_length_or_range_are_refused() -> None:
    for wrong in (torch.zeros(3), torch.tensor([0.5, 1.5]), torch.tensor([0.5, math.nan])):
        with pytest.raises(ValueError, match="switch"):
            log_marginal(torch.zeros(1), torch.zeros(1, 2), wrong)
        with pytest.raises(ValueError, match="switch"):
            escape_mass(0.1, 0.1, wrong, 2)


def ends(answer: tuple[int, ...], switch: float) -> list[float]:
    """ρ_t that the answer itself decides: token 0 ends a sentence."""
    return [switch if token == 0 else 0.0 for token in answer]


def test_the_answers_own_chances_make_one_distribution() -> None:
    toy = Toy([0.5, 0.3, 0.2], seed=1, vocabulary=3, length=4)
    each = [
        log_marginal(toy.log_prior, toy.log_likelihood(answer), double(ends(answer, 0.7))).exp()
        for answer in toy.answers()
    ]
    torch.testing.assert_close(sum(each).item(), 1.0, **TOLERANCE)


def truncated(toy: Toy, kept: int) -> tuple[Toy, float]:
    """The mixture over the first ``kept`` components, and the prior mass of the others."""
    mass = math.fsum(toy.prior[:kept])
    prior = [p / mass if j < kept else 0.0 for j, p in enumerate(toy.prior)]
    return Toy(prior, toy.seed, toy.vocabulary, toy.length), max(0.0, math.fsum(toy.prior[kept:]))


@quick
@given(toys(length=3, zeros=False), switches, st.integers(1, 4))
def test_truncation_bounds_hold_with_the_answers_own_chances(toy: Toy, switch: float, kept: int) -> None:
    smaller, dropped = truncated(toy, kept)
    gap = 0.0
    for answer in toy.answers():
        rho = ends(answer, switch)
        inside = log_marginal(toy.log_prior[:kept], toy.log_likelihood(answer)[:kept], double(rho))
        lower, upper = log_truncation_bracket(inside, dropped, double(rho), toy.length)
        whole = toy.probability(answer, rho)
        assert lower.exp().item() - SLACK <= whole <= upper.exp().item() + SLACK
        gap += abs(whole - smaller.probability(answer, rho)) / 2
    assert gap <= truncation_tv(dropped, switch, toy.length).item() + SLACK  # each token may end a sentence


@quick
@given(toys(length=3, zeros=False), switches, st.integers(1, 4))
def test_the_next_token_moves_by_at_most_its_bound_after_the_end_of_a_sentence(
    toy: Toy, switch: float, kept: int
) -> None:
    smaller, dropped = truncated(toy, kept)
    for prefix in ((), *toy.answers(1), *toy.answers(2)):
        rho = ends(prefix, switch)
        both = [next_law(each, prefix, rho) for each in (toy, smaller)]
        gap = sum(abs(a - b) for a, b in zip(*both, strict=True)) / 2
        assert gap <= next_token_tv(dropped, rho[-1] if prefix else 1.0).item() + SLACK


def next_law(toy: Toy, prefix: tuple[int, ...], rho: list[float]) -> list[float]:
    before = toy.probability(prefix, rho)
    return [toy.probability((*prefix, token), rho) / before for token in range(toy.vocabulary)]


def test_inside_a_sentence_a_truncated_mixture_may_write_something_else() -> None:
    """The passage left out has 1 % of the prior, and nearly all of the posterior."""
    prior, table = double([0.99, 0.01]).log(), double([[1e-6, 0.5], [1.0, 0.5]]).log()
    weights = log_predictive_weights(prior, table, double([0.0, 0.0])).exp()
    assert weights[1, 1] > 0.999
    assert next_token_tv(0.01, 0.0) == 1.0 and next_token_tv(0.01, 1.0).item() == pytest.approx(0.01)
    after = log_predictive_weights(prior, table, double([1.0, 0.0])).exp()
    torch.testing.assert_close(after[1, 1].item(), 0.01)


def test_only_draws_count_among_what_paths_can_miss() -> None:
    rho = double([0.0, 0.5, 0.0, 0.5, 1.0])  # nothing follows the last token
    expected = 1 - 0.9 * (1 - 0.5 * 0.1) ** 2
    assert escape_mass(0.1, 0.1, rho, 5).item() == pytest.approx(expected)
    many = escape_mass(torch.tensor([0.1, 0.2]), torch.tensor([0.1, 0.2]), rho, 5)
    assert many.tolist() == pytest.approx([expected, 1 - 0.8 * (1 - 0.5 * 0.2) ** 2])
