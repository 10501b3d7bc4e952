"""Decoding against enumeration of all answers."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings

from enumeration import Toy, switches, toys
from mixrag.errors import SettingError
from mixrag.inference.beam_search import beam, fast, thorough
from mixrag.inference.stepwise import each_alone, greedy, sample, scored
from tables import toy_mixture

quick = settings(max_examples=40, deadline=None)
TOY = Toy([0.5, 0.3, 0.2], seed=11, vocabulary=4, length=4)
LIMIT = 4


def outcomes(toy: Toy, switch: float, limit: int = LIMIT) -> dict[tuple[int, ...], float]:
    """Every answer that ends, or is cut off, within the limit, with its enumerated probability."""
    stop = toy.vocabulary - 1
    table = {}
    for length in range(1, limit + 1):
        for tokens in itertools.product(range(toy.vocabulary), repeat=length):
            if stop not in tokens[:-1] and (tokens[-1] == stop or length == limit):
                table[tokens] = toy.probability(tokens, switch)
    return table


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_all_outcomes_together_have_probability_one(switch: float) -> None:
    assert sum(outcomes(TOY, switch).values()) == pytest.approx(1.0)


@quick
@given(toys(length=4), switches)
def test_greedy_takes_the_most_probable_next_token(toy: Toy, switch: float) -> None:
    prefix: tuple[int, ...] = ()
    for step in greedy(toy_mixture(toy, switch), LIMIT):
        before = toy.probability(prefix, switch)
        distribution = [toy.probability((*prefix, token), switch) / before for token in range(toy.vocabulary)]
        assert math.exp(step.log_prob) == pytest.approx(max(distribution), rel=1e-6)
        assert distribution[step.token] == pytest.approx(max(distribution), rel=1e-6)
        prefix = (*prefix, step.token)
    assert prefix[-1] == toy.vocabulary - 1 or len(prefix) == LIMIT


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_the_live_posterior_is_the_filter_and_the_steps_make_up_the_scored_answer(switch: float) -> None:
    mixture = toy_mixture(TOY, switch)
    steps = list(greedy(mixture, LIMIT))
    answer = scored(mixture, steps)
    again = mixture.score_tokens(answer.tokens)
    assert answer.log_prob == pytest.approx(again.log_prob)
    assert answer.log_prob == pytest.approx(sum(step.log_prob for step in steps))
    torch.testing.assert_close(answer.responsibilities, again.responsibilities)
    for t, step in enumerate(steps):
        joint = TOY.joint(answer.tokens[: t + 1], switch)
        for j in range(3):
            expected = sum(p for path, p in joint.items() if path[-1] == j) / sum(joint.values())
            assert float(step.posterior[j]) == pytest.approx(expected)


def test_sampling_draws_from_the_mixture_itself() -> None:
    toy = Toy([0.6, 0.4], seed=3, vocabulary=3, length=2)
    mixture, draws = toy_mixture(toy, 0.3), 1500
    counts = Counter(
        tuple(step.token for step in sample(mixture, max_tokens=2, seed=seed)) for seed in range(draws)
    )
    for tokens, probability in outcomes(toy, 0.3, limit=2).items():
        spread = 5 * math.sqrt(probability * (1 - probability) / draws)
        assert abs(counts[tokens] / draws - probability) <= spread


def test_sampling_is_reproducible_by_its_seed() -> None:
    mixture = toy_mixture(TOY, 0.0)
    draw = [[step.token for step in sample(mixture, LIMIT, seed)] for seed in (1, 1, 2, 3, 4)]
    assert draw[0] == draw[1] and len({tuple(tokens) for tokens in draw}) > 1


@quick
@given(toys(length=3), switches)
def test_a_wide_beam_finds_the_enumerated_best_and_certifies_it(toy: Toy, switch: float) -> None:
    found = beam(toy_mixture(toy, switch), width=toy.vocabulary**3, max_tokens=3)
    table = outcomes(toy, switch, limit=3)
    finished = {tokens: p for tokens, p in table.items() if tokens[-1] == toy.vocabulary - 1}
    best = found.answers[0]
    if best.tokens in finished:
        assert math.exp(best.log_prob) == pytest.approx(max(finished.values()), rel=1e-6)
    assert found.log_pruned == -math.inf
    assert found.certified == (math.exp(best.log_prob) >= max(table.values()) * (1 - 1e-9))


@quick
@given(toys(length=4), switches)
def test_a_certified_answer_is_the_most_probable_outcome(toy: Toy, switch: float) -> None:
    found = beam(toy_mixture(toy, switch), width=2, max_tokens=LIMIT)
    assert found.answers[0].log_prob == pytest.approx(
        math.log(toy.probability(found.answers[0].tokens, switch)), rel=1e-6
    )
    if found.certified:
        assert math.exp(found.answers[0].log_prob) >= max(outcomes(toy, switch).values()) - 1e-9


def test_narrow_beams_are_sometimes_certified_and_sometimes_not() -> None:
    verdicts = {
        beam(toy_mixture(Toy([0.5, 0.3, 0.2], seed, 4, 4), 0.0), width=1, max_tokens=4).certified
        for seed in range(40)
    }
    assert verdicts == {True, False}


def test_narrow_beams_never_certify_a_miss_and_do_miss() -> None:
    missed = 0
    for seed in range(60):
        toy = Toy([0.5, 0.3, 0.2], seed, 4, 3)
        found = beam(toy_mixture(toy, 0.0), width=1, max_tokens=3)
        best = max(outcomes(toy, 0.0, limit=3).values())
        is_best = math.exp(found.answers[0].log_prob) >= best * (1 - 1e-9)
        assert is_best or not found.certified
        missed += not is_best
    assert missed > 0


def test_a_wider_beam_is_never_worse_on_its_own_mixture_in_the_mean() -> None:
    gain = 0.0
    for seed in range(30):
        mixture = toy_mixture(Toy([0.5, 0.3, 0.2], seed, 4, 4), 0.0)
        narrow, wide = (beam(mixture, width, 4).answers[0].log_prob for width in (1, 8))
        gain += wide - narrow
    assert gain >= 0


def test_several_answers_come_in_order() -> None:
    found = beam(toy_mixture(TOY, 0.0), width=6, max_tokens=4, wanted=3)
    log_probs = [answer.log_prob for answer in found.answers]
    assert len(found.answers) >= 3 and log_probs == sorted(log_probs, reverse=True)
    assert len({answer.tokens for answer in found.answers}) == len(found.answers)


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_thorough_decoding_returns_the_best_of_its_candidates_under_the_mixture(switch: float) -> None:
    mixture = toy_mixture(TOY, switch)
    candidates = {answer.tokens for j in range(3) for answer in beam(mixture.alone(j), 3, LIMIT, wanted=3).answers}
    best = max(TOY.probability(tokens, switch) for tokens in candidates)
    found = thorough(mixture, 3, LIMIT)
    assert math.exp(found.answers[0].log_prob) == pytest.approx(best)
    assert {answer.tokens for answer in found.answers} == candidates and not found.certified


def test_fast_decoding_ranks_by_the_lower_bound_and_reports_the_exact_probability() -> None:
    mixture = toy_mixture(TOY, 0.0)
    bound: Counter[tuple[int, ...]] = Counter()
    for j in range(3):
        for answer in beam(mixture.alone(j), 2, LIMIT, wanted=2).answers:
            bound[answer.tokens] += TOY.prior[j] * math.exp(answer.log_prob)
    found = fast(mixture, 2, LIMIT).answers[0]
    assert bound[found.tokens] == pytest.approx(max(bound.values()))
    assert math.exp(found.log_prob) == pytest.approx(TOY.probability(found.tokens, 0.0))


def test_fast_decoding_is_refused_where_it_is_not_defined() -> None:
    with pytest.raises(SettingError, match="switch 0 for fast decoding"):
        fast(toy_mixture(TOY, 0.5), 2, LIMIT)


def test_each_component_alone_answers_as_its_own_mixture_does() -> None:
    mixture = toy_mixture(TOY, 0.0)
    for j, answer in enumerate(each_alone(mixture, LIMIT)):
        expected = [step.token for step in greedy(mixture.alone(j), LIMIT)]
        assert list(answer.tokens) == expected
        assert answer.log_prob == pytest.approx(mixture.alone(j).score_tokens(expected).log_prob)


def test_answers_stop_at_the_limit_and_say_so() -> None:
    mixture = toy_mixture(TOY, 0.0)
    answer = scored(mixture, greedy(mixture, 1))
    assert len(answer.tokens) == 1 and answer.finished == (answer.tokens[0] == 3)
