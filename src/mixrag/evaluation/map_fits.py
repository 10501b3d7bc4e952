"""The fits of a calibration: from answers known to be right or wrong to a map.

Guo et al. 2017, "On Calibration of Modern Neural Networks": temperature scaling; Zadrozny & Elkan 2002: isotonic
regression; Platt 1999: logistic regression. Every map is fitted to p(right): an answer to a question that the
documents do not answer is wrong. The two-part map is a product of two logistic functions
(``answers/confidence.py``): p(answerable) is fitted on which questions have an answer; then, given it,
p(right | answerable) such that the product fits which answers are right.

Every weight has the sign that ``FEATURES`` gives its feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixrag.answers.confidence import ConfidenceMap
from mixrag.answers.signals import FEATURES, LARGEST_LOG_ODDS
from mixrag.config.command_settings import CalibrationMethod
from mixrag.evaluation.calibration import (
    Candidate,
    Outcome,
    confidences_of,
    features_of,
    rights,
    with_unanswerable,
)
from mixrag.utils.arrays import Floats
from mixrag.utils.extras import require

_FOR = ("eval", "calibration")
"""The extra that installs scikit-learn and scipy, and what they are needed for here."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """n answers."""

    outcomes: Sequence[Outcome]
    right: Floats
    """(n,) 1.0 where right."""
    count: Floats
    """(n,) how often each counts."""
    answerable: Floats
    """(n,) 1.0 where the documents answer the question."""


def fit_candidate(
    candidate: Candidate, outcomes: Sequence[Outcome], unanswerable: Sequence[Outcome] = ()
) -> ConfidenceMap:
    """The map of maximum likelihood; ``unanswerable`` are answers to questions which the documents do not."""
    ones, zeros = np.ones(len(outcomes)), np.zeros(len(unanswerable))
    answerable, right, count = with_unanswerable(ones, rights(outcomes), zeros)
    return _FITS[candidate.method](candidate, _Sample([*outcomes, *unanswerable], right, count, answerable))


Weights = tuple[dict[str, float], float]
"""Weights by feature, and the offset."""


def _temperature(_: Candidate, sample: _Sample) -> ConfidenceMap:
    """One divisor of all log-odds, by maximum likelihood."""
    odds = _table(sample.outcomes, ("plain",))[:, 0]

    def loss(log_scale: float) -> float:
        # -log p of the outcomes, without the overflow of exp at large odds.
        signed = np.where(sample.right == 1.0, odds, -odds) * math.exp(log_scale)
        return float((sample.count * np.logaddexp(0.0, -signed)).sum())

    found = require("scipy.optimize", *_FOR).minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded")
    return ConfidenceMap("temperature", right={"plain": math.exp(float(found.x))})


def _isotonic(_: Candidate, sample: _Sample) -> ConfidenceMap:
    """The rising step-wise function with the least squared error, linear between its steps."""
    probabilities = confidences_of(ConfidenceMap(), sample.outcomes)
    regression = require("sklearn.isotonic", *_FOR).IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    found = regression.fit(probabilities, sample.right, sample_weight=sample.count)
    pairs = zip(found.X_thresholds_.tolist(), found.y_thresholds_.tolist(), strict=True)
    return ConfidenceMap("isotonic", knots=tuple(pairs))


def _one_part(own: Candidate, sample: _Sample) -> ConfidenceMap:
    weights, offset = _logistic(own.right, sample, sample.right, own.penalty)
    return ConfidenceMap("logistic", right=weights, right_offset=offset)


def _two_parts(own: Candidate, sample: _Sample) -> ConfidenceMap:
    """p(answerable) first; then p(right | answerable) such that the product fits."""
    answerable, offset = _logistic(own.answerable, sample, sample.answerable, own.penalty)
    found = ConfidenceMap("two-part", answerable=answerable, answerable_offset=offset)
    factor = np.array([found.answerable_of(features_of(outcome.signals)) for outcome in sample.outcomes])
    right, right_offset = _logistic(own.right, sample, sample.right, own.penalty, factor)
    return replace(found, right=right, right_offset=right_offset)


def _logistic(
    names: Sequence[str], sample: _Sample, label: Floats, penalty: float, factor: Floats | None = None
) -> Weights:
    """Penalised logistic regression of labels (n,) with weights of the signs that ``FEATURES`` gives.

    With ``factor`` (n,) the probability of a label is the logistic function times it. A feature that some outcome
    lacks, or that is the same in all, gets no weight.
    """
    outcomes, count = sample.outcomes, sample.count
    there = set(FEATURES).intersection(*(features_of(outcome.signals) for outcome in outcomes))
    table = _table(outcomes, [name for name in names if name in there])
    varying = table.std(0) > 1e-9
    names, table = (
        [n for n, v in zip([n for n in names if n in there], varying, strict=True) if v],
        table[:, varying],
    )
    centre, spread = table.mean(0), table.std(0)
    design = np.column_stack([(table - centre) / spread, np.ones(len(label))])
    factor = np.ones(len(label)) if factor is None else factor

    def loss(weights: Floats) -> tuple[float, Floats]:
        inner = np.clip(design @ weights, -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)
        rising = 1.0 / (1.0 + np.exp(-inner))
        found = np.clip(rising * factor, 1e-12, 1.0 - 1e-12)
        slopes = np.append(weights[:-1], 0.0)
        value = -(count * np.where(label == 1.0, np.log(found), np.log1p(-found))).sum()
        by_inner = count * (found - label) / (found * (1.0 - found)) * factor * rising * (1.0 - rising)
        return float(value + penalty / 2 * slopes @ slopes), design.T @ by_inner + penalty * slopes

    bounds = [{1: (0.0, None), -1: (None, 0.0), 0: (None, None)}[FEATURES[name]] for name in names]
    minimise = require("scipy.optimize", *_FOR).minimize
    start = np.zeros(design.shape[1])
    best = minimise(loss, start, jac=True, bounds=[*bounds, (None, None)], method="L-BFGS-B").x
    weights = best[:-1] / spread
    named = dict(zip(names, weights.tolist(), strict=True))
    return {name: weight for name, weight in named.items() if weight}, float(best[-1] - weights @ centre)


def _table(outcomes: Sequence[Outcome], names: Sequence[str]) -> Floats:
    """(n, F) features."""
    rows = [[found[name] for name in names] for found in (features_of(outcome.signals) for outcome in outcomes)]
    return np.array(rows, np.float64).reshape(len(outcomes), len(names))


_FITS: Mapping[CalibrationMethod, Callable[[Candidate, _Sample], ConfidenceMap]] = {
    "none": lambda candidate, sample: ConfidenceMap("none"),
    "temperature": _temperature,
    "isotonic": _isotonic,
    "logistic": _one_part,
    "two-part": _two_parts,
}
