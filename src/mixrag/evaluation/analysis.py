"""What the records of several systems say: scores, gains, confidence, weights, adaptive k."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixrag.answers.confidence import ConfidenceMap, Signals
from mixrag.answers.pipeline import Pipeline
from mixrag.config.command_settings import CalibrationMethod
from mixrag.errors import PairsError, SettingError
from mixrag.evaluation.bootstrap import Interval, paired_difference
from mixrag.evaluation.calibration import (
    METHODS,
    Measured,
    Outcome,
    accuracy_at,
    brier_score,
    chance_error,
    check_enough,
    cross_fitted,
    expected_calibration_error,
    rights,
)
from mixrag.evaluation.scoring import Record
from mixrag.evaluation.summary import Summary, summarise
from mixrag.evaluation.systems import GAINS, Gain
from mixrag.pairs.pairs import Pair
from mixrag.probability import smallest_k
from mixrag.utils.arrays import Floats

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
SMALL_MASSES = (0.1, 0.01, 0.001)
"""Prior mass that adaptive k may leave outside, from a coarse to a fine choice."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One system compared with another, question by question, with 95 % bootstrap intervals."""

    exact_match: Interval
    f1: Interval
    nll: Interval
    """Of -log p(gold answer): below zero the first is better."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How far confidences can be trusted; on the answers of one system."""

    ece: float
    """Expected calibration error, in [0, 1]."""
    chance: float
    """The error that perfect confidences of this number would show on average, by chance."""
    brier: float
    """Mean squared difference from the outcome, in [0, 1]."""
    accuracy_at: Mapping[float, float]
    """Accuracy of the surest answers, by the share of questions answered."""
    coverage: float
    """Share of the questions whose confidence reaches the threshold of the other half."""
    off_corpus_withheld: float | None
    """Share of the off-corpus questions that stay below it; None where none were asked."""
    confidences: Floats
    """(n,) each from a calibration that has not seen its answer."""
    outcomes: Floats
    """(n,) 1.0 where right."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that the report shows."""

    records: Mapping[str, Sequence[Record]]
    summaries: Mapping[str, Summary]
    raw_errors: Mapping[str, float]
    """ECE of the probability itself, by system."""
    errors: Mapping[str, float]
    """ECE of the confidence after calibration on the other half, by system; missing where pairs are too few."""
    gains: tuple[tuple[Gain, Difference], ...]
    differences: Mapping[str, Difference]
    """Every further system compared with the first."""
    trusted: str
    """The system whose confidence is analysed."""
    methods: Mapping[CalibrationMethod, Trust]
    """By calibration method; empty where the pairs are too few."""
    method: CalibrationMethod | None
    """The one that was asked for, else the one with the least squared error; None where the pairs are too few."""
    off_corpus: Sequence[Record]
    notices: tuple[str, ...]
    sources: tuple[str, ...] = ()
    distractors: Mapping[str, Mapping[str, Mapping[int, Sequence[Record]]]] = field(default_factory=dict)
    """By kind, system, number of distractors."""
    adaptive_k: Mapping[float, Sequence[int]] = field(default_factory=dict)
    """The k of every question, by the mass left outside."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the system whose confidence is analysed."""
    calibration: ConfidenceMap | None = None
    """Fitted on all the pairs."""
    command: str = ""

    @property
    def retrieval(self) -> Summary | None:
        """Recall and MRR, which are the same for all systems that retrieve."""
        return next((each for each in self.summaries.values() if each.mrr is not None), None)


def measured(
    records: Mapping[str, Sequence[Record]],
    off_corpus: Sequence[Record],
    trusted: str,
    coverage: float,
    seed: int = 0,
    method: CalibrationMethod | None = None,
) -> Evaluation:
    """Everything that follows from the records alone; ``method`` is the calibration asked for."""
    first, *others = records
    methods, notices = _methods(records[trusted], off_corpus, coverage, seed)
    best = min(methods, key=lambda name: _loss(methods[name]), default=None)
    chosen = method if method is not None and methods else best
    errors = _errors(records, chosen, seed)
    if chosen is not None:
        errors[trusted] = methods[chosen][0].ece  # with the off-corpus questions, as its calibration is fitted
    return Evaluation(
        records=records,
        summaries={name: summarise(some) for name, some in records.items()},
        raw_errors={name: _raw_error(outcomes(some)) for name, some in records.items()},
        errors=errors,
        gains=tuple(
            (gain, difference(records[gain.better], records[gain.worse]))
            for gain in GAINS
            if gain.worse in records and gain.better in records
        ),
        differences={name: difference(records[name], records[first]) for name in others},
        trusted=trusted,
        methods={name: trust for name, (trust, _) in methods.items()},
        method=chosen,
        off_corpus=off_corpus,
        notices=notices,
    )


def outcomes(records: Sequence[Record], right: float | None = None) -> list[Outcome]:
    """What a calibration is fitted on; ``right`` says what the answers are, where the records do not know."""
    return [
        Outcome(
            Signals(record.log_mass, record.support, record.p_empty or 0.0),
            record.exact if right is None else right,
        )
        for record in records
    ]


def difference(records: Sequence[Record], others: Sequence[Record]) -> Difference:
    """The first system minus the second, on the same questions."""
    pairs = list(zip(records, others, strict=True))
    return Difference(
        exact_match=paired_difference([a.exact for a, _ in pairs], [b.exact for _, b in pairs]),
        f1=paired_difference([a.f1 for a, _ in pairs], [b.f1 for _, b in pairs]),
        nll=paired_difference([a.nll for a, _ in pairs], [b.nll for _, b in pairs]),
    )


def adaptive_k(rag: Pipeline, pairs: Sequence[Pair]) -> dict[float, list[int]]:
    """The smallest k of every question that leaves at most each of ``SMALL_MASSES`` outside; no language model.

    Empty where the search is not exact, or the system retrieves nothing.
    """
    if rag.settings.k == 0:
        return {}
    ks: dict[float, list[int]] = {mass: [] for mass in SMALL_MASSES}
    for pair in pairs:
        where = {**rag.settings.where, **pair.where}
        changes = {
            "k": "all",
            "max_outside": min(SMALL_MASSES),
            "normaliser": "full",
            "where": where,
            "null": None,
            "weights": "retriever",
        }
        try:
            log_prior = rag.passages(pair.question, **changes).log_prior
        except SettingError:  # an approximate index does not compute the mass outside
            return {}
        for mass, found in ks.items():
            found.append(smallest_k(log_prior, mass, 0.0))
    return ks


def _methods(
    records: Sequence[Record], off_corpus: Sequence[Record], coverage: float, seed: int
) -> tuple[dict[CalibrationMethod, tuple[Trust, Measured]], tuple[str, ...]]:
    inside, outside = outcomes(records), outcomes(off_corpus, right=0.0)
    try:
        check_enough(inside)
    except PairsError as error:
        return {}, (f"no calibrated confidence: {error}",)
    found: dict[CalibrationMethod, tuple[Trust, Measured]] = {}
    for method in METHODS:
        each = cross_fitted(method, inside, outside, coverage=coverage, seed=seed)
        found[method] = _trust(each, rights(inside)), each
    return found, ()


def _trust(found: Measured, right: Floats) -> Trust:
    withheld = None if not len(found.off_corpus) else 1.0 - float(found.off_corpus_answered.mean())
    return Trust(
        ece=expected_calibration_error(found.confidences, right),
        chance=chance_error(found.confidences),
        brier=brier_score(found.confidences, right),
        accuracy_at={coverage: accuracy_at(found.confidences, right, coverage) for coverage in COVERAGES},
        coverage=float(found.answered.mean()),
        off_corpus_withheld=withheld,
        confidences=found.confidences,
        outcomes=right,
    )


def _loss(measured_so: tuple[Trust, Measured]) -> float:
    """Squared error over all questions, those off the corpus included, whose answers are wrong."""
    trust, found = measured_so
    return trust.brier * len(trust.outcomes) + float((found.off_corpus**2).sum())


def _raw_error(found: Sequence[Outcome]) -> float:
    """ECE of the probability itself."""
    probabilities = np.array([math.exp(outcome.signals.log_mass) for outcome in found])
    return expected_calibration_error(probabilities, rights(found))


def _errors(
    records: Mapping[str, Sequence[Record]], method: CalibrationMethod | None, seed: int
) -> dict[str, float]:
    errors = {}
    for name, some in records.items():
        found = outcomes(some)
        try:
            confidences = cross_fitted(method or "none", found, seed=seed).confidences
        except PairsError:
            continue
        errors[name] = expected_calibration_error(confidences, rights(found))
    return errors
