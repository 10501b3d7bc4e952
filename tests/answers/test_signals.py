"""Signals of an answer: wordings added up, overlap, form, and features with their signs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from enumeration import Toy
from mixrag.answers.signals import (
    FEATURES,
    LARGEST_LOG_ODDS,
    Signals,
    agreement,
    entropy,
    features,
    form_of,
    log_mass,
    log_odds,
    sigmoid,
    signals_of,
)
from mixrag.answers.word_overlap import sentence_overlaps
from mixrag.inference.beam_search import beam
from tables import toy_mixture


@pytest.mark.parametrize("p", [1e-9, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9])
def test_log_odds_are_those_of_the_probability_and_sigmoid_undoes_them(p: float) -> None:
    assert log_odds(math.log(p)) == pytest.approx(math.log(p / (1 - p)), rel=1e-6)
    assert sigmoid(log_odds(math.log(p))) == pytest.approx(p, rel=1e-6)


@pytest.mark.parametrize("log_p, odds", [(0.0, LARGEST_LOG_ODDS), (-1e4, -LARGEST_LOG_ODDS), (-math.inf, -30.0)])
def test_log_odds_stay_finite(log_p: float, odds: float) -> None:
    assert log_odds(log_p) == odds
    assert sigmoid(-1e4) == 0.0 and sigmoid(1e4) == 1.0


@pytest.mark.parametrize("switch", [0.0, 0.5, 1.0])
def test_wordings_that_say_the_same_are_added_up(switch: float) -> None:
    """Words "the" and "w1": answers are equal once articles are gone, and the chances of all are enumerated."""
    toy = Toy(prior=[0.7, 0.3], seed=3, vocabulary=3, length=3)
    mixture = toy_mixture(toy, switch)
    mixture = replace(mixture, generator=replace(mixture.generator, words=("the", "w1", "<end>")))
    found = beam(mixture, 50, 3).answers
    said = {(1, 2), (0, 1, 2), (1, 0, 2)}  # "w1", "the w1", "w1 the"
    best = next(answer for answer in found if answer.tokens == (1, 2))
    expected = sum(toy.probability(tokens, switch) for tokens in said)
    assert {a.tokens for a in found} >= said
    assert math.exp(log_mass(best, found)) == pytest.approx(expected, rel=1e-6)
    assert log_mass(best, ()) == pytest.approx(best.log_prob)
    assert log_mass(best, [*found, *found]) == pytest.approx(log_mass(best, found))


def test_signals_are_those_of_the_component_that_explains_the_answer() -> None:
    toy = Toy(prior=[0.7, 0.3], seed=3, vocabulary=3, length=3)
    scored = toy_mixture(toy, 0.0).score_tokens((1, 2))
    joint = [prior * math.exp(float(each)) for prior, each in zip([0.7, 0.3], scored.log_component, strict=True)]
    posterior = [each / sum(joint) for each in joint]
    found = signals_of(scored, (), support=0.4, p_empty=0.1)
    best = max(range(2), key=posterior.__getitem__)
    assert found.entropy == pytest.approx(-sum(p * math.log(p) for p in posterior))
    assert found.best_prior == pytest.approx([0.7, 0.3][best])
    assert (found.tokens, found.support, found.p_empty) == (2, 0.4, 0.1)


@pytest.mark.parametrize(
    "text, form", [("Yes", "yes-no"), ("no.", "yes-no"), ("48 hours", "number"), ("not", "text"), ("", "text")]
)
def test_the_form_of_an_answer(text: str, form: str) -> None:
    assert form_of(text) == form


@pytest.mark.parametrize("form", ["yes-no", "text", "number"])
def test_features_never_fall_with_mass_and_never_rise_with_the_empty_answer(form: str) -> None:
    """Every feature that moves with them has weights of one sign: so no fitted map can turn them round."""
    start = Signals(math.log(0.4), 0.5, 0.2, 0.3, 0.5, 4, form, 0.5, 0.5, 0.3, 0.5, 0.8, 1.0)  # type: ignore[arg-type]
    masses = [features(replace(start, log_mass=math.log(p))) for p in (1e-9, 0.1, 0.5, 0.9, 1.0)]
    empties = [features(replace(start, p_empty=p)) for p in (1.0, 0.9, 0.5, 1e-6, 0.0)]
    by_one = [features(replace(start, most_empty=p)) for p in (1.0, 0.9, 0.5, 1e-6, 0.0)]
    for rising in (masses, empties, by_one):
        for low, high in itertools.pairwise(rising):
            for name, sign in FEATURES.items():
                assert low[name] == high[name] or (sign == 1 and low[name] < high[name]), name
        assert rising[0] != rising[-1]


def test_what_is_not_known_is_no_feature() -> None:
    assert set(features(Signals(-1.0, 0.5))) == set(FEATURES) - {
        "spread",
        "best_prior",
        "length",
        "overlap",
        "answered_by_all",
        "sentence",
        "shortfall",
        "labels",
    }
    assert all(map(math.isfinite, features(Signals(-math.inf, 0.0, 1.0)).values()))


@pytest.mark.parametrize(
    "probabilities, ratio",
    [((0.6, 0.3), 0.5), ((0.3, 0.6), 0.5), ((0.2, 0.2), 1.0), ((0.8, 0.4, 0.2), 0.25), ((0.5, 0.0), 0.0)],
)
def test_agreement_is_the_smaller_probability_beside_the_larger(
    probabilities: tuple[float, ...], ratio: float
) -> None:
    logs = [math.log(p) if p else -math.inf for p in probabilities]
    assert agreement(logs) == pytest.approx(ratio)


def test_agreement_takes_two_generators_of_which_one_can_write_the_answer() -> None:
    assert agreement([]) == agreement([-0.5]) == agreement([-math.inf, -math.inf]) == 0.0


def test_the_emptiest_generator_is_a_signal() -> None:
    scored = toy_mixture(Toy([0.6, 0.4], seed=3, vocabulary=4, length=3), 0.0).score_tokens((1, 2))
    found = signals_of(scored, (), 0.4, 0.1, (-1.0, -2.0), (0.05, 0.15))
    assert found.most_empty == 0.15
    assert features(found)["answered_by_all"] == pytest.approx(math.log(0.85 / 0.15))
    assert features(found)["answered"] == pytest.approx(math.log(0.9 / 0.1))
    for empty in ((), (None, None)):
        alone = signals_of(scored, (), 0.4, 0.1, (-1.0, -2.0), empty)
        assert alone.most_empty is None
        assert "answered_by_all" not in features(alone)


def test_agreement_is_a_signal_of_the_answer() -> None:
    scored = toy_mixture(Toy(prior=[0.7, 0.3], seed=3, vocabulary=3, length=3), 0.0).score_tokens((1, 2))
    assert signals_of(scored, (), 0.4, 0.1).agreement == 0.0
    found = signals_of(scored, (), 0.4, 0.1, [math.log(0.4), math.log(0.1)])
    assert features(found)["agreement"] == found.agreement == pytest.approx(0.25)


def test_the_place_of_the_answer_is_a_signal_but_not_of_yes_or_no() -> None:
    start = Signals(-1.0, 0.5, sentence=0.25, best_sentence=1.0)
    assert features(start)["sentence"] == 0.25 and features(start)["shortfall"] == 0.75
    assert (
        features(replace(start, form="yes-no"))["sentence"]
        == 0.0
        == features(replace(start, form="yes-no"))["shortfall"]
    )
    scored = toy_mixture(Toy(prior=[0.7, 0.3], seed=3, vocabulary=3, length=3), 0.0).score_tokens((1, 2))
    own = scored.mixture.components[int(scored.posterior.argmax())].passages
    found = signals_of(scored, (), 0.4, 0.1)
    assert (found.sentence, found.best_sentence) == sentence_overlaps(scored.mixture.question, scored.text, own)


def test_entropy_in_nats() -> None:
    assert entropy([0.5, 0.5, 0.0]) == pytest.approx(math.log(2)) and entropy([1.0]) == 0.0 == entropy([])
