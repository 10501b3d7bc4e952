"""Calibration against its definitions, and against answers whose chances are planted."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from mixrag.answers.confidence import Signals, log_odds, sigmoid
from mixrag.errors import PairsError
from mixrag.evaluation.calibration import (
    METHODS,
    Outcome,
    accuracy_at,
    brier_score,
    chance_error,
    check_enough,
    confidences_of,
    cross_fitted,
    expected_calibration_error,
    fit,
    halves,
    reliability,
    rights,
    risk_coverage,
    threshold_for,
)


def planted(n: int, scale: float, seed: int = 0, support: float = 0.5) -> list[Outcome]:
    """Answers right with probability sigmoid(scale · logit(p)): p is wrong by ``scale``."""
    source = np.random.default_rng(seed)
    found = []
    for odds in source.normal(0.0, 2.0, n):
        right = float(source.random() < sigmoid(scale * odds))
        found.append(Outcome(Signals(math.log(sigmoid(odds)), support), right))
    return found


def by_hand(confidences: list[float], right: list[float], bins: int = 10) -> float:
    """ECE as a loop over bins and answers."""
    total = 0.0
    for b in range(bins):
        inside = [
            i for i, c in enumerate(confidences) if b / bins <= c < (b + 1) / bins or (c == 1 and b == bins - 1)
        ]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(accuracy - confidence)
    return total


def test_the_expected_calibration_error_is_that_of_a_loop() -> None:
    source = np.random.default_rng(1)
    confidences = np.concatenate([source.random(200), [0.0, 1.0, 1.0]])
    right = (source.random(203) < 0.4).astype(float)
    expected = by_hand(confidences.tolist(), right.tolist())
    assert expected_calibration_error(confidences, right) == pytest.approx(expected)
    assert sum(each.n for each in reliability(confidences, right)) == 203
    with pytest.raises(ValueError, match="one answer or more"):
        expected_calibration_error(np.array([]), np.array([]))


def test_perfect_and_worst_confidences_have_the_errors_of_their_definitions() -> None:
    right = np.array([1.0, 0.0, 1.0, 0.0])
    assert expected_calibration_error(right, right) == 0.0 and brier_score(right, right) == 0.0
    assert expected_calibration_error(1 - right, right) == 1.0 and brier_score(1 - right, right) == 1.0


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_temperature_finds_the_planted_one(scale: float) -> None:
    found = fit("temperature", planted(4000, scale))
    assert found.scale == pytest.approx(scale, rel=0.1)


@pytest.mark.parametrize("method", ["temperature", "logistic", "isotonic"])
def test_every_method_mends_overconfidence_on_answers_it_has_not_seen(method: str) -> None:
    seen, unseen = planted(1000, 0.3), planted(1000, 0.3, seed=9)
    raw = confidences_of(fit("none", seen), unseen)
    mended = confidences_of(fit(method, seen), unseen)
    before, after = (expected_calibration_error(each, rights(unseen)) for each in (raw, mended))
    assert before > 0.15 and after < 0.05
    assert brier_score(mended, rights(unseen)) < brier_score(raw, rights(unseen))


@pytest.mark.parametrize("method", METHODS)
def test_confidence_never_falls_as_probability_rises(method: str) -> None:
    found = fit(method, planted(300, 0.5))
    confidences = [found.confidence(Signals(log_p, 0.5)) for log_p in np.linspace(-40.0, 0.0, 200)]
    assert all(0 <= low <= high <= 1 for low, high in itertools.pairwise(confidences))


def on_and_off_corpus(spread: float = 0.0) -> tuple[list[Outcome], list[Outcome]]:
    """300 of each: equally probable answers, to questions that are near to the passages or far from them."""
    source = np.random.default_rng(2)
    inside, outside = planted(300, 1.0), planted(300, 1.0, seed=5)
    near, far = source.normal(0.7, spread, 300), source.normal(0.2, spread, 300)
    return (
        [replace(each, signals=replace(each.signals, support=s)) for each, s in zip(inside, near, strict=True)],
        [Outcome(replace(each.signals, support=s), 0.0) for each, s in zip(outside, far, strict=True)],
    )


def test_support_tells_questions_off_the_corpus_apart() -> None:
    inside, outside = on_and_off_corpus()
    found = cross_fitted("logistic", inside, outside)
    assert found.off_corpus_answered.mean() < 0.05 and 0.7 < found.answered.mean() < 0.9
    blind = cross_fitted("temperature", inside, outside)
    assert blind.off_corpus_answered.mean() > 0.5


@pytest.mark.parametrize("times", [1, 10])
def test_confidence_is_that_of_questions_of_the_corpus_however_many_others_are_asked(times: int) -> None:
    inside, outside = on_and_off_corpus(spread=0.1)
    found = fit("logistic", inside, outside * times)
    accuracy = rights(inside).mean()
    assert confidences_of(found, inside).mean() == pytest.approx(accuracy, abs=0.01)
    assert confidences_of(found, outside).mean() < accuracy / 2


def test_the_order_is_kept_where_it_says_nothing_among_questions_of_the_corpus() -> None:
    """The less probable answers are right here: confidence must not prefer what is far from all passages."""
    inside, outside = on_and_off_corpus()
    inside = [replace(each, right=float(each.signals.log_mass < math.log(0.5))) for each in inside]
    found = fit("logistic", inside, outside)
    assert found.slope > 0
    assert confidences_of(found, inside).mean() == pytest.approx(rights(inside).mean(), abs=0.02)
    assert confidences_of(found, outside).mean() < confidences_of(found, inside).mean()


def test_a_calibration_is_measured_on_answers_it_has_not_seen() -> None:
    """Isotonic regression on answers of equal probability gives each half the other's rate, not its own."""
    signals = Signals(math.log(0.4), 0.0)
    found = [Outcome(signals, float(i < 30)) for i in range(80)]
    first, second = halves(found)
    confidences = cross_fitted("isotonic", found).confidences
    for mine, other in ((first, second), (second, first)):
        assert confidences[mine] == pytest.approx(rights(found)[other].mean())


def test_halves_are_disjoint_and_share_right_and_wrong() -> None:
    found = planted(101, 1.0)
    first, second = halves(found, seed=3)
    assert sorted([*first, *second]) == list(range(101))
    counts = [rights(found)[half].sum() for half in (first, second)]
    assert abs(counts[0] - counts[1]) <= 1 and abs(len(first) - len(second)) <= 2
    assert halves(found, seed=3) == (first, second) != halves(found, seed=4)


def test_the_threshold_leaves_the_share_that_is_asked_for() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    for coverage, threshold in ((1.0, 0.1), (0.8, 0.2), (0.61, 0.2), (0.6, 0.3), (0.01, 0.5)):
        assert threshold_for(values, coverage) == threshold
    assert threshold_for(np.array([0.5, 0.5, 0.1]), 0.4) == 0.5


def test_risk_and_coverage_are_those_of_a_loop_with_ties_shared() -> None:
    confidences = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    right = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    coverage, accuracy = risk_coverage(confidences, right)
    assert coverage.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert accuracy.tolist() == pytest.approx([1.0, (1 + 1 / 3) / 2, (1 + 2 / 3) / 3, 2 / 4, 2 / 5])
    assert accuracy_at(confidences, right, 0.2) == 1.0
    assert accuracy_at(confidences, right, 1.0) == pytest.approx(0.4)


def test_chance_alone_makes_an_error_that_falls_with_the_number_of_answers() -> None:
    few, many = (np.random.default_rng(0).random(n) for n in (50, 5000))
    assert chance_error(few) > 0.06 > 0.02 > chance_error(many) > 0


@pytest.mark.parametrize("n, right, message", [(39, 20, "40 pairs"), (40, 5, "6 right"), (60, 55, "6 right")])
def test_too_few_pairs_are_refused_with_the_number_that_is_needed(n: int, right: int, message: str) -> None:
    found = [Outcome(Signals(math.log(0.5), 0.0), float(i < right)) for i in range(n)]
    for call in (lambda: check_enough(found), lambda: fit("isotonic", found), lambda: cross_fitted("none", found)):
        with pytest.raises(PairsError, match=message):
            call()
    assert log_odds(math.log(0.5)) == pytest.approx(0.0)
