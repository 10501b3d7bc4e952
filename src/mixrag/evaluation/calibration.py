"""From the probability of an answer to a confidence, fitted on answers known to be right or wrong.

Guo et al. 2017, "On Calibration of Modern Neural Networks": temperature scaling, expected calibration error;
Zadrozny & Elkan 2002: isotonic regression; Platt 1999: logistic regression, here on two signals
(``confidence.py``).
Confidences and outcomes are of shape (n,), n answers; an outcome is 1 where the answer is an exact match.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixrag.answers.confidence import (
    LARGEST_LOG_ODDS,
    ConfidenceMap,
    Signals,
    conditions,
    log_odds,
    sigmoid,
)
from mixrag.config.command_settings import CalibrationMethod
from mixrag.config.settings import Settings
from mixrag.errors import PairsError
from mixrag.utils.arrays import Floats
from mixrag.utils.extras import require

_FOR = ("eval", "calibration")
"""The extra that installs scikit-learn and scipy, and what they are needed for here."""
BINS = 10
"""Bins of equal width, as in Guo et al."""
ENOUGH = 40
"""Pairs from which a calibration is tried: twenty to fit on, twenty to measure on."""
ENOUGH_OF_EACH = 3
"""Right and wrong answers that each half must have: of fewer no rate can be estimated."""
LEAST_SLOPE = 0.1
"""What is left of the order between questions on and off the corpus where it says nothing among the former."""
COVERAGE = 0.8
"""Share of the questions that the default threshold leaves answered."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer's signals and whether it was right."""

    signals: Signals
    right: float
    """1.0 where it is an exact match, else 0.0."""


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


def check_enough(outcomes: Sequence[Outcome]) -> None:
    """Refuse what no calibration can be fitted on.

    Raises:
        PairsError: too few answers, or hardly any right (or wrong) among them.
    """
    right = sum(outcome.right for outcome in outcomes)
    if len(outcomes) < ENOUGH:
        raise PairsError(f"{ENOUGH} pairs or more to calibrate on", f"{len(outcomes)}", "add pairs")
    least = min(right, len(outcomes) - right)
    if least < 2 * ENOUGH_OF_EACH:
        expected = f"{2 * ENOUGH_OF_EACH} right and as many wrong answers to calibrate on"
        raise PairsError(expected, f"{right:.0f} right of {len(outcomes)}", "add pairs, or train the reader first")


def fit(
    method: CalibrationMethod,
    outcomes: Sequence[Outcome],
    off_corpus: Sequence[Outcome] = (),
    *,
    settings: Settings | None = None,
    fitted_on: str = "",
    coverage: float = COVERAGE,
) -> ConfidenceMap:
    """The calibration of this method; its threshold leaves ``coverage`` of the outcomes answered.

    Questions that the corpus cannot answer (``off_corpus``) teach the logistic method what little support means;
    the other methods do not see support, and leave them out.

    Raises:
        PairsError: as ``check_enough``.
    """
    check_enough(outcomes)
    found = _FITS[method](outcomes, off_corpus)
    confidences = confidences_of(found, outcomes)
    used = {} if settings is None else conditions(settings)
    return replace(found, threshold=threshold_for(confidences, coverage), fitted_on=fitted_on, settings=used)


def confidences_of(calibration: ConfidenceMap, outcomes: Sequence[Outcome]) -> Floats:
    """(n,) confidences."""
    return np.array([calibration.confidence(outcome.signals) for outcome in outcomes], np.float64)


def rights(outcomes: Sequence[Outcome]) -> Floats:
    """(n,) 1.0 where right."""
    return np.array([outcome.right for outcome in outcomes], np.float64)


def halves(outcomes: Sequence[Outcome], seed: int = 0) -> tuple[list[int], list[int]]:
    """Positions of two halves, each with half of the right and half of the wrong answers (stratified)."""
    source, right = np.random.default_rng(seed), rights(outcomes)
    first: list[int] = []
    for value in (0.0, 1.0):
        drawn = source.permutation(np.flatnonzero(right == value))
        first += drawn[: (len(drawn) + int(value)) // 2].tolist()
    chosen = set(first)
    return sorted(chosen), [i for i in range(len(outcomes)) if i not in chosen]


@dataclass(frozen=True, slots=True)
class Measured:
    """Confidences of answers, each by a calibration that was fitted on the half in which the answer is not."""

    confidences: Floats
    """(n,)"""
    answered: npt.NDArray[np.bool_]
    """(n,) True where the confidence reaches the threshold of that calibration."""
    off_corpus: Floats
    """(m,) confidences for questions that the corpus cannot answer."""
    off_corpus_answered: npt.NDArray[np.bool_]
    """(m,)"""


def cross_fitted(
    method: CalibrationMethod,
    outcomes: Sequence[Outcome],
    off_corpus: Sequence[Outcome] = (),
    *,
    coverage: float = COVERAGE,
    seed: int = 0,
) -> Measured:
    """Fit on one half, measure on the other, and the other way round.

    Raises:
        PairsError: as ``check_enough``.
    """
    check_enough(outcomes)
    inside, outside = (np.empty(len(some)) for some in (outcomes, off_corpus))
    threshold, off_threshold = np.empty_like(inside), np.empty_like(outside)
    both, off_both = halves(outcomes, seed), halves(off_corpus, seed)
    for mine, other in ((0, 1), (1, 0)):
        own = [outcomes[i] for i in both[mine]]
        found = _FITS[method](own, [off_corpus[i] for i in off_both[mine]])
        inside[both[other]] = confidences_of(found, [outcomes[i] for i in both[other]])
        outside[off_both[other]] = confidences_of(found, [off_corpus[i] for i in off_both[other]])
        bar = threshold_for(confidences_of(found, own), coverage)
        threshold[both[other]], off_threshold[off_both[other]] = bar, bar
    return Measured(inside, inside >= threshold, outside, outside >= off_threshold)


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
    found = reliability(confidences, right, bins)
    return sum(each.n * abs(each.accuracy - each.confidence) for each in found) / len(confidences)


def chance_error(confidences: Floats, bins: int = BINS, draws: int = 200, seed: int = 0) -> float:
    """The ECE that answers with exactly these chances of being right would have on average, by chance alone.

    The error is a mean of absolute values, so that n answers show some of it however well they are calibrated.
    """
    source = np.random.default_rng(seed)
    outcomes = (source.random((draws, len(confidences))) < confidences).astype(np.float64)
    return float(np.mean([expected_calibration_error(confidences, each, bins) for each in outcomes]))


def brier_score(confidences: Floats, right: Floats) -> float:
    """Mean squared difference between confidence and outcome (Brier 1950), in [0, 1]."""
    return float(np.mean((confidences - right) ** 2))


def threshold_for(confidences: Floats, coverage: float) -> float:
    """The largest threshold that leaves at least this share of the answers at or above it."""
    answered = min(len(confidences), max(1, math.ceil(coverage * len(confidences))))
    return float(np.sort(confidences)[::-1][answered - 1])


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


def _temperature(outcomes: Sequence[Outcome], off_corpus: Sequence[Outcome]) -> ConfidenceMap:
    """One divisor of all log-odds, by maximum likelihood."""
    odds, right = _odds(outcomes), rights(outcomes)

    def loss(log_scale: float) -> float:
        # -log p of the outcomes, without the overflow of exp at large odds.
        signed = np.where(right == 1.0, odds, -odds) * math.exp(log_scale)
        return float(np.logaddexp(0.0, -signed).sum())

    found = require("scipy.optimize", *_FOR).minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded")
    return ConfidenceMap("temperature", scale=math.exp(float(found.x)))


def _logistic(outcomes: Sequence[Outcome], off_corpus: Sequence[Outcome]) -> ConfidenceMap:
    """Logistic regression on log-odds and support; lightly regularised, so that separable pairs stay finite.

    Questions off the corpus say how much each signal counts. How sure to be is fitted once more on the others
    alone: a confidence is that for a question which the documents can answer, however many others were asked.
    """
    signals = np.stack([_odds(outcomes), [each.signals.support for each in outcomes]], -1)
    scale, slope, offset = _plane([*outcomes, *off_corpus])
    if off_corpus:
        surer, offset = _line(signals @ [scale, slope], rights(outcomes))
        scale, slope = surer * scale, surer * slope
    return ConfidenceMap("logistic", scale=scale, slope=slope, offset=offset)


def _plane(outcomes: Sequence[Outcome]) -> tuple[float, float, float]:
    """Weights of log-odds and support, and the offset, of a logistic regression."""
    table = np.stack([_odds(outcomes), [each.signals.support for each in outcomes]], -1)
    centre, spread = table.mean(0), table.std(0)
    spread[spread < 1e-9] = 1.0
    found = (
        require("sklearn.linear_model", *_FOR)
        .LogisticRegression(C=10.0)
        .fit((table - centre) / spread, rights(outcomes))
    )
    scale, slope = (found.coef_[0] / spread).tolist()
    return scale, slope, float(found.intercept_[0] - scale * centre[0] - slope * centre[1])


def _line(scores: Floats, right: Floats) -> tuple[float, float]:
    """Slope, at least ``LEAST_SLOPE``, and offset of a logistic regression on one number (n,)."""
    spread = float(scores.std()) or 1.0
    found = require("sklearn.linear_model", *_FOR).LogisticRegression(C=10.0).fit(scores[:, None] / spread, right)
    slope = float(found.coef_[0, 0]) / spread
    if slope >= LEAST_SLOPE:
        return slope, float(found.intercept_[0])

    def excess(offset: float) -> float:
        return sum(sigmoid(LEAST_SLOPE * score + offset) for score in scores.tolist()) - float(right.sum())

    far = LEAST_SLOPE * float(np.abs(scores).max()) + LARGEST_LOG_ODDS
    return LEAST_SLOPE, float(require("scipy.optimize", *_FOR).brentq(excess, -far, far))


def _isotonic(outcomes: Sequence[Outcome], off_corpus: Sequence[Outcome]) -> ConfidenceMap:
    """The rising step-wise function with the least squared error, linear between its steps."""
    probabilities = np.array([sigmoid(each) for each in _odds(outcomes)])
    regression = require("sklearn.isotonic", *_FOR).IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    found = regression.fit(probabilities, rights(outcomes))
    pairs = zip(found.X_thresholds_.tolist(), found.y_thresholds_.tolist(), strict=True)
    return ConfidenceMap("isotonic", knots=tuple(pairs))


def _odds(outcomes: Sequence[Outcome]) -> Floats:
    return np.array([log_odds(outcome.signals.log_mass) for outcome in outcomes], np.float64)


_FITS: Mapping[CalibrationMethod, Callable[[Sequence[Outcome], Sequence[Outcome]], ConfidenceMap]] = {
    "none": lambda outcomes, off_corpus: ConfidenceMap("none"),
    "temperature": _temperature,
    "logistic": _logistic,
    "isotonic": _isotonic,
}
METHODS: tuple[CalibrationMethod, ...] = tuple(_FITS)
"""From the raw probability to the most flexible map."""
