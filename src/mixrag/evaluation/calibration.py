"""What a calibration is fitted on: answers known to be right or wrong, and the maps that are compared.

Confidences and outcomes are of shape (n,), n answers. A question that the documents do not answer has no right
answer: whatever is written, it is wrong. Such questions count once each, and together at most as
``UNANSWERABLE_SHARE`` of all: more of them, off the corpus and easily made, would say nothing of how often
they are asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mixrag.answers.confidence import LEVELS, ConfidenceMap, level_of
from mixrag.answers.signals import Signals, features
from mixrag.config.command_settings import CalibrationMethod
from mixrag.errors import PairsError
from mixrag.evaluation.trust_measures import Threshold, precision_at, threshold_for, threshold_for_precision
from mixrag.pairs.pairs import question_digest
from mixrag.utils.arrays import Floats

ENOUGH = 40
"""Pairs from which a calibration is fitted."""
ENOUGH_OF_EACH = 6
"""Right and wrong answers that there must be: of fewer no rate can be estimated."""
ENOUGH_UNANSWERABLE = 20
"""Questions without an answer from which p(answerable) is fitted."""
UNANSWERABLE_SHARE = 0.2
"""Largest share of all questions that those without an answer count as, however many there are."""
PENALTIES = (1.0, 4.0, 16.0)
"""Of ½ Σ w² in nats, w the weights of features of standard deviation one: from little to much shrinkage."""
_MASS = ("mass", "mass_yes_no", "yes_no")
_PLACE = ("sentence", "shortfall", "agreement")
_FORM = ("number", "length")
_EMPTY = ("answered", "answered_by_all")
_ANSWERABLE = (*_EMPTY, "support", "overlap", "labels")
_EVERY = (*_MASS, *_PLACE, *_FORM, "spread", "best_prior")


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer's signals and whether it was right."""

    signals: Signals
    right: float
    """1.0 where it is an exact match, else 0.0."""
    group: str = ""
    """The kind of documents that it is about, for measures by group; no map sees it."""
    question: str = ""
    """Whose answer it is; no map sees it. Empty: not known."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the default threshold is for."""

    precision: float = 0.8
    """Share of right answers among those given."""
    coverage: float | None = None
    """Share of the questions to answer, in the place of the precision."""

    def threshold(self, confidences: Floats, right: Floats, unanswerable: Floats | None = None) -> Threshold:
        """The least confidence of an answer that is given.

        ``unanswerable`` (m,) are confidences of questions without an answer: they count in the share of right
        answers, and not among the questions to answer.
        """
        every, correct, count = with_unanswerable(confidences, right, unanswerable)
        if self.coverage is None:
            return threshold_for_precision(every, correct, self.precision, count)
        value = threshold_for(confidences, self.coverage)
        return Threshold(value, precision_at(every, correct, value, count), reached=True)

    def stated(self, threshold: Threshold) -> float | None:
        """What the threshold is for; at 0, where nothing is withheld, the share of right answers that it has."""
        if threshold.value == 0.0 and threshold.precision is not None:
            return threshold.precision.mean
        return self.precision if self.coverage is None else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A method with the features that it weighs."""

    method: CalibrationMethod
    right: tuple[str, ...] = ("plain",)
    answerable: tuple[str, ...] = ()
    penalty: float = PENALTIES[0]


CANDIDATES = (
    Candidate("none"),
    Candidate("temperature"),
    Candidate("isotonic"),
    Candidate("logistic"),
    Candidate("logistic", ("plain", "agreement")),
    Candidate("logistic", (*_MASS, *_EMPTY)),
    Candidate("logistic", (*_MASS, *_PLACE, *_EMPTY)),
    *(Candidate("logistic", (*_MASS, *_PLACE, *_FORM, *_EMPTY), penalty=each) for each in PENALTIES),
    *(Candidate("logistic", (*_EVERY, *_ANSWERABLE), penalty=each) for each in PENALTIES),
    Candidate("two-part", _MASS, _EMPTY),
    Candidate("two-part", _MASS, _ANSWERABLE),
    Candidate("two-part", (*_MASS, *_PLACE), _ANSWERABLE),
    *(Candidate("two-part", (*_MASS, *_PLACE, *_FORM), _ANSWERABLE, each) for each in PENALTIES),
    *(Candidate("two-part", _EVERY, _ANSWERABLE, each) for each in PENALTIES),
)
"""What is compared, from the plain probability to the most flexible map. A feature that is not known of some
answer, or is the same in all, has no weight, so that candidates can be equal; the first is chosen then."""
METHODS: tuple[CalibrationMethod, ...] = tuple(dict.fromkeys(each.method for each in CANDIDATES))


def check_enough(outcomes: Sequence[Outcome]) -> None:
    """Refuse what no calibration can be fitted on.

    Raises:
        PairsError: too few answers, or hardly any right (or wrong) among them.
    """
    right = sum(outcome.right for outcome in outcomes)
    if len(outcomes) < ENOUGH:
        raise PairsError(f"{ENOUGH} pairs or more to calibrate on", f"{len(outcomes)}", "add pairs")
    if min(right, len(outcomes) - right) < ENOUGH_OF_EACH:
        expected = f"{ENOUGH_OF_EACH} right and as many wrong answers to calibrate on"
        raise PairsError(expected, f"{right:.0f} right of {len(outcomes)}", "add pairs, or train the reader first")


def candidates_for(method: CalibrationMethod | None, unanswerable: Sequence[Outcome]) -> tuple[Candidate, ...]:
    """Those of a method, or of all that can be fitted.

    Raises:
        PairsError: the method has two parts, and there are too few questions without an answer.
    """
    two_parts = len(unanswerable) >= ENOUGH_UNANSWERABLE
    if method == "two-part" and not two_parts:
        expected = f"{ENOUGH_UNANSWERABLE} questions or more that the documents do not answer"
        raise PairsError(expected, str(len(unanswerable)), "add some, or choose another --calibration")
    return tuple(
        each for each in CANDIDATES if (method in (None, each.method)) and (two_parts or each.method != "two-part")
    )


def levels_of(
    confidences: Floats, right: Floats, unanswerable: Floats | None = None
) -> dict[str, tuple[int, int]]:
    """By level in words the answers of it, and how many of them are right.

    Answers to questions without one count as ``with_unanswerable`` says, a level's to the nearest whole number.
    """
    every, correct, count = with_unanswerable(confidences, right, unanswerable)
    words = np.array([level_of(value) for value in every.tolist()])
    found = {}
    for name, _ in LEVELS:
        number, wrong = int(correct[words == name].sum()), float((count * (1.0 - correct))[words == name].sum())
        found[name] = (number + round(wrong), number)
    return found


def with_unanswerable(
    confidences: Floats, right: Floats, unanswerable: Floats | None
) -> tuple[Floats, Floats, Floats]:
    """(n + m,) confidences, outcomes and how often each counts, of answers (n,) and of questions without (m,)."""
    outside = np.zeros(0) if unanswerable is None else unanswerable
    count = np.full(len(outside), unanswerable_weight(len(confidences), len(outside)))
    return (
        np.concatenate([confidences, outside]),
        np.concatenate([right, np.zeros(len(outside))]),
        np.concatenate([np.ones(len(confidences)), count]),
    )


def unanswerable_weight(answerable: int, unanswerable: int) -> float:
    """How often each of the questions without an answer counts beside so many with one.

    >>> unanswerable_weight(80, 10), unanswerable_weight(80, 40)
    (1.0, 0.5)
    """
    most = UNANSWERABLE_SHARE / (1 - UNANSWERABLE_SHARE) * answerable
    return min(1.0, most / unanswerable) if unanswerable else 1.0


def confidences_of(calibration: ConfidenceMap, outcomes: Sequence[Outcome]) -> Floats:
    """(n,) confidences."""
    return np.array([calibration.of_features(features_of(outcome.signals)) for outcome in outcomes], np.float64)


@lru_cache(2**16)
def features_of(signals: Signals) -> Mapping[str, float]:
    """``features``, computed once for all fits."""
    return features(signals)


def rights(outcomes: Sequence[Outcome]) -> Floats:
    """(n,) 1.0 where right."""
    return np.array([outcome.right for outcome in outcomes], np.float64)


def questions_of(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The distinct digests of their questions, sorted; empty where one of them does not know its question."""
    if not all(outcome.question for outcome in outcomes):
        return ()
    return tuple(sorted({question_digest(outcome.question) for outcome in outcomes}))


def groups_of(outcomes: Sequence[Outcome]) -> dict[str, list[int]]:
    """Positions of the outcomes of each group, in the order in which the groups appear."""
    found: dict[str, list[int]] = defaultdict(list)
    for place, outcome in enumerate(outcomes):
        found[outcome.group].append(place)
    return dict(found)
