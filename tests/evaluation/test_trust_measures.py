"""Measures of trust against their definitions, and thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from mixrag.evaluation.trust_measures import (
    accuracy_at,
    auroc,
    auroc_difference,
    brier_score,
    chance_error,
    expected_calibration_error,
    log_loss,
    precision_at,
    reliability,
    resampled,
    risk_coverage,
    share_right,
    threshold_for,
    threshold_for_precision,
)


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


def by_pairs(confidences: list[float], right: list[float], folds: list[int] | None = None) -> float:
    """AUROC as a double loop over right and wrong answers."""
    places = folds or [0] * len(right)
    won = count = 0.0
    for c, r, f in zip(confidences, right, places, strict=True):
        for d, s, g in zip(confidences, right, places, strict=True):
            if r == 1 and s == 0 and f == g:
                won += 1.0 if c > d else 0.5 if c == d else 0.0
                count += 1
    return won / count


@pytest.mark.parametrize("seed", range(5))
def test_auroc_counts_pairs_with_ties_as_a_half(seed: int) -> None:
    source = np.random.default_rng(seed)
    confidences, right = source.integers(0, 6, 40) / 5, (source.random(40) < 0.4).astype(float)
    folds = source.integers(0, 3, 40)
    assert auroc(confidences, right) == pytest.approx(by_pairs(confidences.tolist(), right.tolist()), abs=1e-15)
    within = by_pairs(confidences.tolist(), right.tolist(), folds.tolist())
    assert auroc(confidences, right, folds) == pytest.approx(within, abs=1e-15)


def test_auroc_of_the_extremes() -> None:
    right = np.array([1.0, 1.0, 0.0])
    assert auroc(np.array([0.9, 0.8, 0.1]), right) == 1.0
    assert auroc(np.array([0.1, 0.2, 0.9]), right) == 0.0
    assert auroc(np.array([0.5, 0.5, 0.5]), right) == 0.5
    assert auroc(np.array([0.5, 0.5]), np.ones(2)) is None is auroc(np.array([]), np.array([]))


def test_the_threshold_for_a_precision_is_the_lowest_that_attains_it() -> None:
    confidences = np.arange(20) / 20
    right = np.array([0.0] * 8 + [1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1], float)
    found = threshold_for_precision(confidences, right, 0.8)
    for bar in confidences:
        answered = confidences >= bar
        if bar < found.value:
            assert right[answered].mean() < 0.8
    assert found.reached and found.value == confidences[8]
    assert found.precision is not None and found.precision.mean == pytest.approx(10 / 12)
    assert found.precision.low < 0.8 < found.precision.high
    assert precision_at(confidences, right, found.value) == found.precision


def test_a_precision_out_of_reach_gives_the_best_there_is_and_says_so() -> None:
    confidences, right = np.arange(40) / 40, np.array([0.0, 1.0] * 15 + [1.0, 1.0, 0.0, 1.0, 0.0] * 2)
    found = threshold_for_precision(confidences, right, 0.95)
    assert not found.reached and found.precision is not None
    assert found.precision.mean == max(right[confidences >= bar].mean() for bar in confidences[:31])
    assert threshold_for_precision(np.array([0.5, 0.5]), np.array([1.0, 0.0]), 0.5).value == 0.5


def test_answers_that_count_twice_are_two() -> None:
    source = np.random.default_rng(3)
    confidences, right = source.integers(0, 12, 60) / 12, (source.random(60) < 0.5).astype(float)
    count = source.integers(1, 4, 60)
    many, correct = np.repeat(confidences, count), np.repeat(right, count)
    for precision in (0.4, 0.6, 0.9):
        found = threshold_for_precision(confidences, right, precision, count.astype(float))
        assert found == threshold_for_precision(many, correct, precision)
    weights = count.astype(float)
    assert precision_at(confidences, right, 0.5, weights) == precision_at(many, correct, 0.5)
    assert share_right(right, np.zeros(60, bool), weights) is None
    inner = 0.05 + 0.9 * confidences
    assert log_loss(inner, right, weights=weights) == pytest.approx(log_loss(np.repeat(inner, count), correct))


def test_answers_of_equal_confidence_are_given_together() -> None:
    confidences = np.array([0.3] * 10 + [0.7] * 10)
    right = np.array([1.0] * 5 + [0.0] * 5 + [1.0] * 9 + [0.0])
    found = threshold_for_precision(confidences, right, 0.8)
    assert found.value == 0.7 and found.precision is not None and found.precision.mean == 0.9


def test_log_loss_is_that_of_a_loop() -> None:
    assert log_loss(np.array([0.8, 0.4]), np.array([1.0, 0.0])) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert np.isfinite(log_loss(np.array([0.0]), np.array([1.0])))


def test_intervals_of_resampled_measures_hold_the_measure() -> None:
    source = np.random.default_rng(0)
    confidences = source.random(200)
    right = (source.random(200) < confidences).astype(float)
    found = resampled(auroc, confidences, right)
    value = auroc(confidences, right)
    assert found is not None and value is not None and found[0] < value < found[1]
    assert resampled(auroc, confidences, np.ones(200)) is None


def test_the_difference_of_two_aurocs_and_its_error() -> None:
    """Beside both AUROCs, and the spread of the difference over draws of other answers."""
    source = np.random.default_rng(3)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        right = (source.random(n) < 0.4).astype(float)
        one, other = right + source.normal(size=n), right + 1.5 * source.normal(size=n)
        return one, other, right, source.integers(0, 2, n)

    one, other, right, folds = drawn(200)
    gain, _ = auroc_difference(one, other, right, folds)
    assert gain == pytest.approx(auroc(one, right, folds) - auroc(other, right, folds))  # type: ignore[operator]
    whole = np.zeros(200, int)
    gains = []
    for _ in range(400):
        own, beside, hit, _ = drawn(200)
        gains.append(auroc_difference(own, beside, hit, whole)[0])
    assert auroc_difference(one, other, right, whole)[1] == pytest.approx(np.std(gains), rel=0.25)
    assert auroc_difference(one, one, right, folds) == (0.0, 0.0)
    assert auroc_difference(one, other, np.ones(200), folds) == (0.0, 0.0)
