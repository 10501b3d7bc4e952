"""How far confidences can be trusted: error of calibration, discrimination, and accuracy by coverage.

Confidences and outcomes are of shape (n,), n answers; an outcome is 1 where the answer is an exact match.
Guo et al. 2017 define the expected calibration error, El-Yaniv & Wiener 2010 risk and coverage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixrag.evaluation.bootstrap import Interval
from mixrag.evaluation.proportions import wilson
from mixrag.utils.arrays import Floats

BINS = 10
"""Bins of equal width, as in Guo et al."""
SAME = 1e-9
"""Figures that differ by less are equal."""
LEAST_ANSWERED = 10
"""Answers that a threshold must leave before their precision means anything."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about one confidence."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean confidence of its answers."""
    accuracy: float
    """Share of them that is right."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A least confidence, and how many of the answers that reach it are right."""

    value: float
    precision: Interval | None
    """Share of the answers at or above it that is right, with Wilson's interval; None where there is none."""
    reached: bool
    """Whether that share is what was asked for."""


def auroc(confidences: Floats, right: Floats, folds: npt.NDArray[np.int_] | None = None) -> float | None:
    """P(a right answer has more confidence than a wrong one), ties counting ½ (Hanley & McNeil 1982).

    Only pairs within one of ``folds`` (n,) are compared, where they are given: confidences of different fits are
    not on one scale. None where no right answer can be compared with a wrong one.
    """
    places = np.zeros(len(right), np.int_) if folds is None else folds
    won = pairs = 0.0
    for place in np.unique(places):
        own, outcome = confidences[places == place], right[places == place] == 1.0
        count, all_pairs = int(outcome.sum()), int(outcome.sum()) * int((~outcome).sum())
        won += float(_middle_ranks(own)[outcome].sum()) - count * (count + 1) / 2
        pairs += all_pairs
    return won / pairs if pairs else None


def auroc_difference(
    one: Floats, other: Floats, right: Floats, folds: npt.NDArray[np.int_]
) -> tuple[float, float]:
    """AUROC of ``one`` less that of ``other`` on the same answers (n,), and its standard error.

    DeLong et al. 1988, "Comparing the areas under two or more correlated ROC curves". Compared are pairs within
    a fold, as ``auroc`` does. (0, 0) where there are none.
    """
    hit = right == 1.0
    same = folds[hit][:, None] == folds[~hit][None, :]
    if not same.any():
        return 0.0, 0.0
    gain = np.where(same, _won(one, hit) - _won(other, hit), 0.0)
    of_right = (gain.sum(1) / np.maximum(1, same.sum(1)))[same.any(1)]
    of_wrong = (gain.sum(0) / np.maximum(1, same.sum(0)))[same.any(0)]
    variance = sum(float(each.var(ddof=1)) / len(each) for each in (of_right, of_wrong) if len(each) > 1)
    return float(gain.sum() / same.sum()), math.sqrt(variance)


def _won(confidences: Floats, hit: npt.NDArray[np.bool_]) -> Floats:
    """(right, wrong) 1 where the right answer has more confidence, ½ where both have as much."""
    difference = confidences[hit][:, None] - confidences[~hit][None, :]
    found: Floats = (np.sign(difference) + 1.0) / 2.0
    return found


def _middle_ranks(values: Floats) -> Floats:
    """(n,) ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks: Floats = (last - (counts - 1) / 2)[places]
    return ranks


def reliability(confidences: Floats, right: Floats, bins: int = BINS) -> list[Bin]:
    """The bins of equal width that hold an answer, in order."""
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    return [
        Bin(
            place / bins,
            (place + 1) / bins,
            int((places == place).sum()),
            float(confidences[places == place].mean()),
            float(right[places == place].mean()),
        )
        for place in range(bins)
        if (places == place).any()
    ]


def expected_calibration_error(confidences: Floats, right: Floats, bins: int = BINS) -> float:
    """ECE: mean over answers of |accuracy - mean confidence| of their bin, in [0, 1].

    Raises:
        ValueError: no answer.
    """
    if not len(confidences):
        raise ValueError("expected confidences of one answer or more; found none")
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    excess = np.bincount(places, right - confidences, bins)
    return float(np.abs(excess).sum()) / len(confidences)


def chance_error(confidences: Floats, bins: int = BINS, draws: int = 200, seed: int = 0) -> float:
    """The ECE that answers with exactly these chances of being right would have on average, by chance alone.

    The error is a mean of absolute values, so that n answers show some of it however well they are calibrated.
    """
    return float(np.mean(chance_errors(confidences, bins, draws, seed)))


def chance_errors(confidences: Floats, bins: int = BINS, draws: int = 200, seed: int = 0) -> Floats:
    """(draws,) the ECE of answers with exactly these chances of being right, drawn so often."""
    source = np.random.default_rng(seed)
    outcomes = (source.random((draws, len(confidences))) < confidences).astype(np.float64)
    return np.array([expected_calibration_error(confidences, each, bins) for each in outcomes])


def brier_score(confidences: Floats, right: Floats) -> float:
    """Mean squared difference between confidence and outcome (Brier 1950), in [0, 1]."""
    return float(np.mean((confidences - right) ** 2))


def log_loss(confidences: Floats, right: Floats, least: float = 1e-6, weights: Floats | None = None) -> float:
    """Mean -log of the probability given to the outcome, in nats; probabilities below ``least`` count as it.

    Each answer counts ``weights`` (n,), 1 by default.
    """
    given = np.where(right == 1.0, confidences, 1.0 - confidences)
    return float(np.average(-np.log(np.maximum(given, least)), weights=weights))


def resampled(
    measure: Callable[[Floats, Floats], float | None],
    confidences: Floats,
    right: Floats,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of a measure over answers; None where too few resamples have one."""
    source = np.random.default_rng(seed)
    draws = source.integers(len(right), size=(resamples, len(right)))
    found = [value for draw in draws if (value := measure(confidences[draw], right[draw])) is not None]
    if len(found) < resamples / 2:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def threshold_for(confidences: Floats, coverage: float) -> float:
    """The largest threshold that leaves at least this share of the answers at or above it."""
    answered = min(len(confidences), max(1, math.ceil(coverage * len(confidences))))
    return float(np.sort(confidences)[::-1][answered - 1])


def threshold_for_precision(
    confidences: Floats, right: Floats, precision: float = 0.8, weights: Floats | None = None
) -> Threshold:
    """The lowest threshold at which the share of right answers among those that reach it is ``precision``.

    At least ``LEAST_ANSWERED`` answers must reach it, or all where there are fewer. Where no threshold attains
    the precision, the one with the greatest is given, and ``reached`` is False. Each answer counts ``weights``
    (n,), 1 by default.

    Raises:
        ValueError: no answer.
    """
    if not len(confidences):
        raise ValueError("expected confidences of one answer or more; found none")
    count = np.ones(len(confidences)) if weights is None else weights
    values, places = np.unique(confidences, return_inverse=True)
    answered = np.bincount(places, count)[::-1].cumsum()[::-1]
    correct = np.bincount(places, count * right)[::-1].cumsum()[::-1]
    enough = answered >= min(LEAST_ANSWERED, answered[0]) - SAME
    shares = np.where(enough, correct / answered, -1.0)
    attained = np.flatnonzero(shares >= precision)
    place = int(attained[0]) if len(attained) else int(shares.argmax())
    found = _interval(float(correct[place]), float(answered[place]))
    return Threshold(float(values[place]), found, bool(len(attained)))


def precision_at(
    confidences: Floats, right: Floats, threshold: float, weights: Floats | None = None
) -> Interval | None:
    """Share of right answers among those that reach the threshold; None where none does."""
    return share_right(right, confidences >= threshold, weights)


def share_right(right: Floats, answered: npt.NDArray[np.bool_], weights: Floats | None = None) -> Interval | None:
    """Share of right answers among those answered (n,), each of which counts ``weights``; None where none is."""
    count = np.ones(len(right)) if weights is None else weights
    total = float(count[answered].sum())
    return _interval(float((count * right)[answered].sum()), total) if total else None


def _interval(right: float, total: float) -> Interval:
    """The share, with Wilson's interval of the nearest whole number of answers."""
    n = max(1, math.ceil(right - SAME), round(total))
    return replace(wilson(min(right, n), n), mean=min(1.0, right / total))


def risk_coverage(confidences: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Coverage and accuracy (n,) when only the i surest answers are given, i = 1..n (El-Yaniv & Wiener 2010).

    Answers of equal confidence cannot be distinguished: each counts with the mean outcome of its equals.
    """
    values, places, counts = np.unique(-confidences, return_inverse=True, return_counts=True)
    means = np.bincount(places, right, len(values)) / counts
    order = np.argsort(-confidences, kind="stable")
    number = np.arange(1, len(right) + 1)
    return number / len(right), means[places][order].cumsum() / number


def accuracy_at(confidences: Floats, right: Floats, coverage: float) -> float:
    """Accuracy of the surest answers that make up this share of all."""
    _, accuracies = risk_coverage(confidences, right)
    return float(accuracies[max(1, math.ceil(coverage * len(right))) - 1])
