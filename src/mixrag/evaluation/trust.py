"""How far the confidences of one system can be trusted, measured on answers known to be right or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mixrag.answers.applied_calibration import AppliedCalibration
from mixrag.answers.confidence import ConfidenceMap
from mixrag.evaluation.bootstrap import Interval
from mixrag.evaluation.calibration import Outcome, confidences_of, rights, with_unanswerable
from mixrag.evaluation.proportions import share
from mixrag.evaluation.selection import Measured
from mixrag.evaluation.trust_measures import (
    accuracy_at,
    auroc,
    brier_score,
    chance_error,
    expected_calibration_error,
    precision_at,
    resampled,
)
from mixrag.utils.arrays import Floats

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
ENOUGH_TO_JUDGE = 20
"""Pairs from which a confidence that is in use already is judged."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How far confidences can be trusted; on the answers of one system."""

    ece: float
    """Expected calibration error, in [0, 1]."""
    chance: float
    """The error that perfect confidences of this number would show on average, by chance."""
    auroc: float | None
    """P(a right answer has more confidence than a wrong one), ties ½; of cross-fitted confidences within folds.
    None where all answers are right, or all wrong."""
    brier: float
    """Mean squared difference from the outcome, in [0, 1]."""
    accuracy_at: Mapping[float, float]
    """Accuracy of the surest answers, by the share of questions answered."""
    coverage: float
    """Share of the questions whose confidence reaches the threshold."""
    precision: Interval | None
    """Share of right answers among those, questions without an answer counted as wrong
    (``with_unanswerable``); None where there is none."""
    off_corpus_withheld: Interval | None
    """Share of the questions without an answer that stay below it; None where none were asked."""
    confidences: Floats
    """(n,)"""
    outcomes: Floats
    """(n,) 1.0 where right."""


@dataclass(frozen=True, slots=True)
class InUse:
    """The confidence that answers are shown with, judged on pairs that it was not fitted on here."""

    trust: Trust
    ece_interval: tuple[float, float] | None
    """95 % bootstrap interval over questions."""
    auroc_interval: tuple[float, float] | None
    auroc_plain: float | None
    """AUROC of p(answer) itself."""
    ece_plain: float
    threshold: float
    fitted_on: str


def trust_of_measured(found: Measured, right: Floats) -> Trust:
    """Of cross-fitted confidences, each beside the threshold that the other folds set."""
    ordered, precision = auroc(found.confidences, right, found.folds), found.precision(right)
    withheld = share((~found.off_corpus_answered).tolist()) if len(found.off_corpus) else None
    return _trust(found.confidences, right, ordered, float(found.answered.mean()), precision, withheld)


def judge(
    applied: AppliedCalibration, outcomes: Sequence[Outcome], off_corpus: Sequence[Outcome] = ()
) -> InUse | None:
    """The confidence in use on these outcomes; None where a signal that it needs is not known of some.

    Raises:
        ValueError: no outcome.
    """
    own, threshold = applied.calibration, applied.threshold
    if not all(own.can_judge(each.signals) for each in (*outcomes, *off_corpus)):
        return None
    confidences, right = confidences_of(own, outcomes), rights(outcomes)
    outside = confidences_of(own, off_corpus)
    every, correct, count = with_unanswerable(confidences, right, outside)
    plain = confidences_of(ConfidenceMap(), outcomes)
    trust = _trust(
        confidences,
        right,
        auroc(confidences, right),
        float((confidences >= threshold).mean()),
        precision_at(every, correct, threshold, count),
        share((outside < threshold).tolist()) if len(outside) else None,
    )
    return InUse(
        trust,
        resampled(expected_calibration_error, confidences, right),
        resampled(auroc, confidences, right),
        auroc(plain, right),
        expected_calibration_error(plain, right),
        threshold,
        own.fitted_on,
    )


def _trust(
    confidences: Floats,
    right: Floats,
    ordered: float | None,
    coverage: float,
    precision: Interval | None,
    withheld: Interval | None,
) -> Trust:
    return Trust(
        ece=expected_calibration_error(confidences, right),
        chance=chance_error(confidences),
        auroc=ordered,
        brier=brier_score(confidences, right),
        accuracy_at={share_: accuracy_at(confidences, right, share_) for share_ in COVERAGES},
        coverage=coverage,
        precision=precision,
        off_corpus_withheld=withheld,
        confidences=confidences,
        outcomes=np.asarray(right, np.float64),
    )
