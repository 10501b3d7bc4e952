"""Certificates of a model that rounds hold for the model that does not, whatever is read together.

The model is a table whose logits have errors that change with the batch. What is certified, bounded or said to
lead is compared with the table itself, enumerated by loops in probability space.
"""

from __future__ import annotations

import itertools
import math
import pickle

import pytest
import torch

from enumeration import Toy
from mixrag.inference.beam_search import SearchResult, beam
from mixrag.inference.mixture import Mixture, condition
from mixrag.probability import log_shifted
from noisy_tables import noisy_mixture
from tables import toy_mixture, toy_passages

PRIOR = [0.5, 0.3, 0.2]
NOISE = 0.3
STOP = 3
SWITCHES = (0.0, 0.3, 1.0)
Truth = dict[tuple[int, ...], float]


def truth(toy: Toy, switch: float, empty_answer: bool) -> Truth:
    """p of every answer that ends within the toy's length or is cut off there; given ≠∅ if there is ∅."""
    prior = dict(enumerate(toy.prior))
    prefixes = [p for n in range(toy.length) for p in itertools.product(range(STOP), repeat=n)]
    law = {(j, prefix): toy.next_token(j, prefix) for j in prior for prefix in prefixes}
    if empty_answer:
        stated = {j: 1 - law[j, ()][STOP] for j in prior}
        total = math.fsum(prior[j] * stated[j] for j in prior)
        prior = {j: prior[j] * stated[j] / total for j in prior}
        for j in prior:
            law[j, ()] = [*(p / stated[j] for p in law[j, ()][:STOP]), 0.0]
    found = {}
    ended = [(*prefix, STOP) for prefix in prefixes if prefix or not empty_answer]
    for tokens in dict.fromkeys([*ended, *itertools.product(range(STOP), repeat=toy.length)]):
        weights = prior
        for t, token in enumerate(tokens):
            if t:
                total = math.fsum(weights.values())
                weights = {j: (1 - switch) * weights[j] + switch * prior[j] * total for j in prior}
            weights = {j: weights[j] * law[j, tokens[:t]][token] for j in prior}
        found[tokens] = math.fsum(weights.values())
    assert math.fsum(found.values()) == pytest.approx(1.0)
    return found


def searches(seeds: int, switch: float, rounding: float, empty_answer: bool) -> list[tuple[SearchResult, bool]]:
    """What a beam of width 2 finds with noise, and whether it is the best answer without."""
    found = []
    for seed in range(seeds):
        toy = Toy(PRIOR, seed, STOP + 1, 3)
        exact = truth(toy, switch, empty_answer)
        result = beam(noisy_mixture(toy, switch, NOISE, rounding, empty_answer=empty_answer), 2, 3)
        found.append((result, exact[result.answers[0].tokens] >= max(exact.values()) * (1 - 1e-9)))
    return found


@pytest.mark.parametrize("empty_answer", [False, True])
@pytest.mark.parametrize("switch", SWITCHES)
def test_what_is_certified_with_noise_is_the_best_answer_without(switch: float, empty_answer: bool) -> None:
    found = searches(40, switch, NOISE, empty_answer)
    assert all(is_best for result, is_best in found if result.certified)
    assert any(result.certified for result, _ in found)


@pytest.mark.parametrize("empty_answer", [False, True])
@pytest.mark.parametrize("switch", SWITCHES)
def test_what_is_certified_leads_whatever_the_errors_are(switch: float, empty_answer: bool) -> None:
    """The numbers are exact, and said not to be: the ends of the intervals of all answers are compared."""
    given = {"certified": 0, "nearly": 0}
    for seed, length in [*((seed, 1) for seed in range(200)), *((seed, 2) for seed in range(40))]:
        toy = Toy(PRIOR, seed, STOP + 1, length)
        mixture = noisy_mixture(toy, switch, 0.0, NOISE, empty_answer=empty_answer)
        found = beam(mixture, 1, length)
        best = found.answers[0]
        others = [mixture.score_tokens(t) for t in truth(toy, switch, empty_answer) if t != best.tokens]
        leads = all(best.log_interval[0] >= other.log_interval[1] - 1e-9 for other in others)
        assert leads or not found.certified
        given["certified"] += found.certified
        given["nearly"] += not leads and all(best.log_prob >= other.log_interval[1] for other in others)
    assert all(given.values())


def test_without_allowing_for_noise_certificates_are_wrong() -> None:
    assert not all(is_best for result, is_best in searches(60, 0.0, 0.0, False) if result.certified)


def test_a_certificate_without_rounding_compares_the_numbers_as_they_are() -> None:
    verdicts = set()
    for seed in range(20):
        toy = Toy(PRIOR, seed, STOP + 1, 3)
        one, other = (beam(each, 1, 3) for each in (toy_mixture(toy, 0.0), noisy_mixture(toy, 0.0, 0.0, 0.0)))
        best = one.answers[0]
        assert one.certified is other.certified is (best.log_prob >= one.log_pruned)
        assert best.log_interval == (best.log_prob, best.log_prob)
        verdicts.add(one.certified)
    assert verdicts == {True, False}


@pytest.mark.parametrize("empty_answer", [False, True])
@pytest.mark.parametrize("switch", SWITCHES)
def test_the_interval_of_an_answer_holds_the_exact_value(switch: float, empty_answer: bool) -> None:
    moved = 0.0
    for seed in range(6):
        toy = Toy(PRIOR, seed, STOP + 1, 2)
        noisy = noisy_mixture(toy, switch, NOISE, NOISE, empty_answer=empty_answer)
        for tokens, p in truth(toy, switch, empty_answer).items():
            found = noisy.score_tokens(tokens)
            low, high = found.log_interval
            assert low <= math.log(p) <= high and low < found.log_prob < high
            moved = max(moved, abs(math.log(p) - found.log_prob))
    assert moved > NOISE / 4


def test_the_interval_of_the_empty_answer_is_that_of_its_log_odds() -> None:
    found = noisy_mixture(Toy([1.0], 1, STOP + 1, 2), 0.0, NOISE, NOISE, empty_answer=True).score("")
    ends = [float(log_shifted(torch.tensor(found.log_prob), h)) for h in (-NOISE, NOISE)]
    assert found.log_interval == pytest.approx(ends)


@pytest.mark.parametrize("empty_answer", [False, True])
@pytest.mark.parametrize("normaliser", ["full", "top-k"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_bounds_and_leads_over_all_passages_hold_without_noise(
    switch: float, normaliser: str, empty_answer: bool
) -> None:
    claims, beyond = 0, 0
    for seed in range(6):
        toy = Toy([0.6, 0.37, 0.03], seed, STOP + 1, 2)
        exact = truth(toy, switch, empty_answer)
        some = truncated(toy, switch, normaliser, NOISE, empty_answer)
        scored = {tokens: some.score_tokens(tokens) for tokens in exact}
        plain = truncated(toy, switch, normaliser, 0.0, empty_answer)
        for tokens, p in exact.items():
            low, high = scored[tokens].log_bracket
            assert low - 1e-12 <= math.log(p) <= high + 1e-12
            low, high = plain.score_tokens(tokens).log_bracket
            beyond += not low <= math.log(p) <= high
        for one, other in itertools.permutations(exact, 2):
            if scored[one].certainly_beats(scored[other]):
                claims += 1
                assert exact[one] > exact[other]
    assert claims and beyond


def test_the_mass_outside_given_an_answer_is_as_large_as_it_may_be() -> None:
    below = 0
    for seed in range(30):
        toy = Toy([0.6, 0.37, 0.03], seed, STOP + 1, 2)
        stated = math.fsum(toy.prior[j] * (1 - toy.next_token(j, ())[STOP]) for j in range(2))
        exact = toy.prior[2] / (stated + toy.prior[2])
        some = truncated(toy, 0.0, "full", NOISE, True)
        most = some.shifted_outside(-NOISE)
        assert most >= exact
        below += some.outside < exact
        assert all(some.score_tokens((token, STOP)).log_bracket[1] >= math.log(most) for token in range(STOP))
    assert below


def truncated(toy: Toy, switch: float, normaliser: str, rounding: float, empty_answer: bool) -> Mixture:
    """The first two passages of three, with noise."""
    log_prior = toy.log_prior[:2] if normaliser == "full" else toy.log_prior[:2].log_softmax(0)
    noisy = noisy_mixture(toy, switch, NOISE, rounding).generator
    options = {"outside": toy.prior[2], "switch": switch, "empty_answer": empty_answer}
    return condition(noisy, "q", toy_passages(toy)[:2], log_prior, **options)


def test_a_pickle_says_how_much_its_model_rounds() -> None:
    scored = noisy_mixture(Toy(PRIOR, 2, STOP + 1, 2), 0.0, NOISE, NOISE).score_tokens((0, STOP))
    again = pickle.loads(pickle.dumps(scored))  # noqa: S301
    assert again.log_interval == scored.log_interval
