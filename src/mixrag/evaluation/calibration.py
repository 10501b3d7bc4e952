"""From signals of an answer to a confidence, fitted on answers known to be right or wrong.

Guo et al. 2017, "On Calibration of Modern Neural Networks": temperature scaling; Zadrozny & Elkan 2002: isotonic
regression; Platt 1999: logistic regression. The two-part map is a product of two logistic functions
(``answers/confidence.py``): p(answerable) is fitted on questions with and without an answer in the documents;
then, given it, p(right | answerable) on those with one. A confidence is therefore that for a question which the
documents answer, however many others were asked; for those others it is low.

Every weight has the sign that ``FEATURES`` gives its feature. Confidences and outcomes are of shape (n,), n
answers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixrag.answers.confidence import LEVELS, ConfidenceMap, conditions, level_of
from mixrag.answers.signals import FEATURES, LARGEST_LOG_ODDS, Signals, features
from mixrag.config.command_settings import CalibrationMethod
from mixrag.config.settings import Settings
from mixrag.errors import PairsError
from mixrag.evaluation.trust_measures import Threshold, precision_at, threshold_for, threshold_for_precision
from mixrag.pairs.pairs import question_digest
from mixrag.utils.arrays import Floats
from mixrag.utils.extras import require

_FOR = ("eval", "calibration")
"""The extra that installs scikit-learn and scipy, and what they are needed for here."""
ENOUGH = 40
"""Pairs from which a calibration is fitted."""
ENOUGH_OF_EACH = 6
"""Right and wrong answers that there must be: of fewer no rate can be estimated."""
ENOUGH_UNANSWERABLE = 20
"""Questions without an answer from which p(answerable) is fitted."""
UNANSWERABLE_SHARE = 0.2
"""Share of the questions that p(answerable) takes to have no answer, however many are in the pairs."""
PENALTY = 1.0
"""Of ½ Σ w² in nats, w the weights of features of standard deviation one: separable pairs stay finite."""
_MASS = ("mass", "mass_yes_no", "yes_no")
_FORM = (*_MASS, "number", "length")
_ANSWERABLE = ("answered", "support", "overlap")


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

    def threshold(self, confidences: Floats, right: Floats) -> Threshold:
        """The least confidence of an answer that is given."""
        if self.coverage is None:
            return threshold_for_precision(confidences, right, self.precision)
        value = threshold_for(confidences, self.coverage)
        return Threshold(value, precision_at(confidences, right, value), reached=True)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A method with the features that it weighs."""

    method: CalibrationMethod
    right: tuple[str, ...] = ("plain",)
    answerable: tuple[str, ...] = ()


CANDIDATES = (
    Candidate("none"),
    Candidate("temperature"),
    Candidate("isotonic"),
    Candidate("logistic"),
    Candidate("logistic", (*_MASS, "answered")),
    Candidate("logistic", (*_FORM, "answered")),
    Candidate("logistic", (*_FORM, "answered", "spread", "best_prior", "support", "overlap")),
    Candidate("two-part", _MASS, ("answered",)),
    Candidate("two-part", _MASS, _ANSWERABLE),
    Candidate("two-part", _FORM, _ANSWERABLE),
    Candidate("two-part", (*_FORM, "spread", "best_prior"), _ANSWERABLE),
)
"""What is compared, from the plain probability to the most flexible map."""
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


def fit_candidate(
    candidate: Candidate, outcomes: Sequence[Outcome], unanswerable: Sequence[Outcome] = ()
) -> ConfidenceMap:
    """The map of maximum likelihood; only one of two parts learns from ``unanswerable``."""
    return _FITS[candidate.method](candidate, outcomes, unanswerable)


def finished(
    calibration: ConfidenceMap,
    outcomes: Sequence[Outcome],
    cross_fitted: Floats,
    target: Target,
    *,
    settings: Settings | None = None,
    fitted_on: str = "",
) -> ConfidenceMap:
    """A fitted map with its threshold, its levels, and what it is valid for.

    Args:
        calibration: fitted on all ``outcomes``.
        outcomes: what the threshold is set on.
        cross_fitted: (n,) their confidences by fits that have not seen them, which the levels count.
        target: of the threshold.
        settings: under which the answers were given; None: any.
        fitted_on: which pairs, in words.
    """
    threshold = target.threshold(confidences_of(calibration, outcomes), rights(outcomes))
    return replace(
        calibration,
        threshold=threshold.value,
        precision=_precision(target, threshold),
        levels=levels_of(cross_fitted, rights(outcomes)),
        fitted_on=fitted_on,
        settings={} if settings is None else conditions(settings),
    )


def _precision(target: Target, threshold: Threshold) -> float | None:
    """What the threshold is for; at 0, where nothing is withheld, the share of right answers that it has."""
    if threshold.value == 0.0 and threshold.precision is not None:
        return threshold.precision.mean
    return target.precision if target.coverage is None else None


def levels_of(confidences: Floats, right: Floats) -> dict[str, tuple[int, int]]:
    """By level in words the answers of it, and how many of them are right."""
    words = np.array([level_of(value) for value in confidences.tolist()])
    return {name: (int((words == name).sum()), int(right[words == name].sum())) for name, _ in LEVELS}


def confidences_of(calibration: ConfidenceMap, outcomes: Sequence[Outcome]) -> Floats:
    """(n,) confidences."""
    return np.array([calibration.confidence(outcome.signals) for outcome in outcomes], np.float64)


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


Weights = tuple[dict[str, float], float]
"""Weights by feature, and the offset."""


def _temperature(_: Candidate, outcomes: Sequence[Outcome], unanswerable: Sequence[Outcome]) -> ConfidenceMap:
    """One divisor of all log-odds, by maximum likelihood."""
    odds, right = _table(outcomes, ("plain",))[:, 0], rights(outcomes)

    def loss(log_scale: float) -> float:
        # -log p of the outcomes, without the overflow of exp at large odds.
        signed = np.where(right == 1.0, odds, -odds) * math.exp(log_scale)
        return float(np.logaddexp(0.0, -signed).sum())

    found = require("scipy.optimize", *_FOR).minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded")
    return ConfidenceMap("temperature", right={"plain": math.exp(float(found.x))})


def _isotonic(_: Candidate, outcomes: Sequence[Outcome], unanswerable: Sequence[Outcome]) -> ConfidenceMap:
    """The rising step-wise function with the least squared error, linear between its steps."""
    probabilities = confidences_of(ConfidenceMap(), outcomes)
    regression = require("sklearn.isotonic", *_FOR).IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    found = regression.fit(probabilities, rights(outcomes))
    pairs = zip(found.X_thresholds_.tolist(), found.y_thresholds_.tolist(), strict=True)
    return ConfidenceMap("isotonic", knots=tuple(pairs))


def _one_part(own: Candidate, outcomes: Sequence[Outcome], unanswerable: Sequence[Outcome]) -> ConfidenceMap:
    weights, offset = _logistic(own.right, outcomes, rights(outcomes))
    return ConfidenceMap("logistic", right=weights, right_offset=offset)


def _two_parts(own: Candidate, outcomes: Sequence[Outcome], unanswerable: Sequence[Outcome]) -> ConfidenceMap:
    """p(answerable) first; then p(right | answerable) such that the product fits the answerable questions."""
    label = np.concatenate([np.ones(len(outcomes)), np.zeros(len(unanswerable))])
    each = UNANSWERABLE_SHARE / (1 - UNANSWERABLE_SHARE) * len(outcomes) / len(unanswerable)
    count = np.where(label == 1.0, 1.0, each)
    answerable, offset = _logistic(own.answerable, [*outcomes, *unanswerable], label, count=count)
    found = ConfidenceMap("two-part", answerable=answerable, answerable_offset=offset)
    factor = np.array([found.answerable_of(features(outcome.signals)) for outcome in outcomes])
    right, right_offset = _logistic(own.right, outcomes, rights(outcomes), factor=factor)
    return replace(found, right=right, right_offset=right_offset)


def _logistic(
    names: Sequence[str],
    outcomes: Sequence[Outcome],
    label: Floats,
    *,
    count: Floats | None = None,
    factor: Floats | None = None,
) -> Weights:
    """Penalised logistic regression of labels (n,) with weights of the signs that ``FEATURES`` gives.

    Every outcome counts ``count`` (n,) times, 1 by default. With ``factor`` (n,) the probability of a label is the
    logistic function times it. A feature that some outcome lacks, or that is the same in all, gets no weight.
    """
    there = set(FEATURES).intersection(*(features(outcome.signals) for outcome in outcomes))
    table = _table(outcomes, [name for name in names if name in there])
    varying = table.std(0) > 1e-9
    names, table = (
        [n for n, v in zip([n for n in names if n in there], varying, strict=True) if v],
        table[:, varying],
    )
    centre, spread = table.mean(0), table.std(0)
    design = np.column_stack([(table - centre) / spread, np.ones(len(label))])
    count = np.ones(len(label)) if count is None else count
    factor = np.ones(len(label)) if factor is None else factor

    def loss(weights: Floats) -> tuple[float, Floats]:
        inner = np.clip(design @ weights, -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)
        rising = 1.0 / (1.0 + np.exp(-inner))
        found = np.clip(rising * factor, 1e-12, 1.0 - 1e-12)
        slopes = np.append(weights[:-1], 0.0)
        value = -(count * np.where(label == 1.0, np.log(found), np.log1p(-found))).sum()
        by_inner = count * (found - label) / (found * (1.0 - found)) * factor * rising * (1.0 - rising)
        return float(value + PENALTY / 2 * slopes @ slopes), design.T @ by_inner + PENALTY * slopes

    bounds = [{1: (0.0, None), -1: (None, 0.0), 0: (None, None)}[FEATURES[name]] for name in names]
    minimise = require("scipy.optimize", *_FOR).minimize
    start = np.zeros(design.shape[1])
    best = minimise(loss, start, jac=True, bounds=[*bounds, (None, None)], method="L-BFGS-B").x
    weights = best[:-1] / spread
    named = dict(zip(names, weights.tolist(), strict=True))
    return {name: weight for name, weight in named.items() if weight}, float(best[-1] - weights @ centre)


def _table(outcomes: Sequence[Outcome], names: Sequence[str]) -> Floats:
    """(n, F) features."""
    rows = [[found[name] for name in names] for found in (features(outcome.signals) for outcome in outcomes)]
    return np.array(rows, np.float64).reshape(len(outcomes), len(names))


_FITS: Mapping[CalibrationMethod, Callable[[Candidate, Sequence[Outcome], Sequence[Outcome]], ConfidenceMap]] = {
    "none": lambda candidate, outcomes, unanswerable: ConfidenceMap("none"),
    "temperature": _temperature,
    "isotonic": _isotonic,
    "logistic": _one_part,
    "two-part": _two_parts,
}
