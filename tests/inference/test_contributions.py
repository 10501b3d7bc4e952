"""What each of two generators contributes to an answer, against loops in probability space."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
import torch

from enumeration import Toy
from mixed_toy import MIXED, MODEL, PRIOR, SPANS, STOP, WEIGHT, mixed_generator, mixed_mixture, product
from mixrag.generator.mixed import copying
from mixrag.inference.contributions import contributions
from mixrag.inference.mixture import condition
from mixrag.inference.stepwise import greedy, scored
from tables import toy_mixture, toy_passages
from tiny_span_model import passage, span_generator

SWITCHES = (0.0, 0.3, 1.0)
TOYS: dict[str, Toy] = {"language-model": MODEL, "extractive": SPANS}


def alone(toy: Toy, answer: tuple[int, ...], switch: float, empty: bool) -> float:
    """p_g(y | x) of the mixture of passages with one generator; given that it answers where ``empty``."""
    if not empty:
        return toy.probability(answer, switch)
    answered = [1 - toy.next_token(j, ())[STOP] for j in range(3)]
    total = math.fsum(p * a for p, a in zip(PRIOR, answered, strict=True))
    again = [p * a / total for p, a in zip(PRIOR, answered, strict=True)]
    given = replace(toy, prior=again)
    joint = given.joint(answer, switch)
    return math.fsum(p / answered[path[0]] for path, p in joint.items() if p)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("switch", SWITCHES)
def test_probabilities_are_those_of_each_generator_alone(switch: float, empty: bool) -> None:
    mixture = mixed_mixture(switch, empty_answer=empty)
    for answer in MIXED.answers():
        if empty and answer[0] == STOP:
            continue
        found = contributions(mixture.score_tokens(answer))
        assert found is not None and [*found] == [*TOYS]
        for name, toy in TOYS.items():
            expected = alone(toy, answer, switch, empty)
            assert found[name].probability == pytest.approx(expected, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("empty", [False, True])
def test_shares_are_the_posterior_of_the_generator(empty: bool) -> None:
    mixture = mixed_mixture(empty_answer=empty)
    for answer in MIXED.answers():
        if empty and answer[0] == STOP:
            continue
        joint = [
            math.fsum(w * PRIOR[j] * product(toy, j, answer) for j in range(3))
            for w, toy in zip((WEIGHT, 1 - WEIGHT), TOYS.values(), strict=True)
        ]
        found = contributions(mixture.score_tokens(answer))
        assert found is not None
        for (name, each), p in zip(found.items(), joint, strict=True):
            assert each.share == pytest.approx(p / math.fsum(joint), rel=1e-9, abs=1e-14), name


@pytest.mark.parametrize("switch", SWITCHES)
def test_shares_are_weighted_by_the_passages_shares(switch: float) -> None:
    mixture = mixed_mixture(switch)
    for answer in MIXED.answers():
        answered = mixture.score_tokens(answer)
        found = contributions(answered)
        assert found is not None
        of_spans = [(1 - WEIGHT) * product(SPANS, j, answer) / MIXED.whole(j, answer) for j in range(3)]
        expected = math.fsum(r * p for r, p in zip(answered.posterior.tolist(), of_spans, strict=True))
        assert found["extractive"].share == pytest.approx(expected, rel=1e-9, abs=1e-14)
        assert found["language-model"].share + found["extractive"].share == pytest.approx(1.0)


def test_a_written_answer_has_the_contributions_of_its_text() -> None:
    mixture = mixed_mixture(0.0, empty_answer=True)
    written = scored(mixture, greedy(mixture, 3))
    assert contributions(written) == contributions(
        mixed_mixture(0.0, empty_answer=True).score_tokens(written.tokens)
    )


def test_the_empty_answer_has_the_probabilities_of_both() -> None:
    found = contributions(mixed_mixture(empty_answer=True).score_tokens((STOP,)))
    assert found is not None
    for name, toy in TOYS.items():
        expected = math.fsum(p * toy.next_token(j, ())[STOP] for j, p in enumerate(PRIOR))
        assert found[name].probability == pytest.approx(expected)


def test_an_impossible_answer_has_no_nan() -> None:
    spans = mixed_generator().extractive
    both = replace(mixed_generator(), language_model=spans)
    prior = torch.tensor(PRIOR, dtype=torch.float64).log()
    for empty in (False, True):
        mixture = condition(both, "q", toy_passages(MIXED), prior, empty_answer=empty)
        for answer in MIXED.answers():
            found = contributions(mixture.score_tokens(answer))
            assert found is not None
            assert not any(math.isnan(each.share) or math.isnan(each.log_prob) for each in found.values())


def test_one_generator_has_no_contributions() -> None:
    assert contributions(toy_mixture(MODEL, 0.0).score_tokens((0, STOP))) is None
    read = pickle.loads(pickle.dumps(mixed_mixture().score_tokens((0, STOP))))  # noqa: S301
    assert contributions(read) is None


def test_with_a_language_model_that_may_only_copy(tiny_generator) -> None:  # type: ignore[no-untyped-def]
    text = "The ferry costs nine crowns in May."
    both = copying(
        replace(mixed_generator(), language_model=tiny_generator("llama-chat"), extractive=span_generator())
    )
    mixture = condition(both, "Who pays the fee?", [passage(text)], torch.zeros(1).double())
    found = contributions(mixture.score("nine crowns"))
    assert found is not None
    for generator, each in zip(both.generators, found.values(), strict=True):
        own = condition(generator, "Who pays the fee?", [passage(text)], torch.zeros(1).double())
        assert each.log_prob == pytest.approx(own.score("nine crowns").log_prob, abs=1e-4)
