"""Which calibration: all candidates cross-fitted on the same folds, and the rule that chooses between them.

Each answer gets a confidence of a fit that has not seen it (K-fold cross-validation, Stone 1974), so that all
pairs are used for fitting and for measuring. The candidate with the least cross-validated log loss is chosen among
those that are not worse than plain p(answer) in any group of the pairs (``not_worse``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixrag.answers.confidence import ConfidenceMap
from mixrag.config.command_settings import CalibrationMethod
from mixrag.config.settings import Settings
from mixrag.evaluation.calibration import (
    ENOUGH_OF_EACH,
    METHODS,
    UNANSWERABLE_SHARE,
    Candidate,
    Outcome,
    Target,
    candidates_for,
    check_enough,
    confidences_of,
    finished,
    fit_candidate,
    groups_of,
    questions_of,
    rights,
)
from mixrag.evaluation.trust_measures import auroc, chance_error, expected_calibration_error, log_loss
from mixrag.utils.arrays import Floats

FOLDS = 5
"""Each fit sees four fifths of the pairs, and a fold has pairs enough to order right and wrong answers."""
SAME = 1e-9
"""Figures that differ by less are equal."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Confidences of answers, each by a calibration that was fitted without the fold in which the answer is."""

    candidate: Candidate
    confidences: Floats
    """(n,)"""
    folds: npt.NDArray[np.int_]
    """(n,) which fold."""
    answered: npt.NDArray[np.bool_]
    """(n,) True where the confidence reaches the threshold of that calibration."""
    off_corpus: Floats
    """(m,) confidences for questions that the documents do not answer."""
    off_corpus_answered: npt.NDArray[np.bool_]
    """(m,)"""

    def loss(self, right: Floats) -> float:
        """Mean log loss per answerable question, those without an answer at their stated share."""
        inside = log_loss(self.confidences, right)
        if not len(self.off_corpus):
            return inside
        outside = log_loss(self.off_corpus, np.zeros(len(self.off_corpus)))
        return inside + UNANSWERABLE_SHARE / (1 - UNANSWERABLE_SHARE) * outside


@dataclass(frozen=True, slots=True)
class Selection:
    """What was compared, and what was chosen."""

    methods: Mapping[CalibrationMethod, Measured]
    """The best candidate of each method."""
    chosen: CalibrationMethod
    refused: tuple[CalibrationMethod, ...]
    """Methods of less log loss that are worse than plain p(answer) in some group."""


def folds_of(outcomes: Sequence[Outcome], seed: int = 0, count: int = FOLDS) -> npt.NDArray[np.int_]:
    """(n,) the fold of each outcome; right and wrong answers of each group are spread over all folds."""
    source, found = np.random.default_rng(seed), np.zeros(len(outcomes), np.int_)
    right, start = rights(outcomes), 0
    for places in groups_of(outcomes).values():
        for value in (0.0, 1.0):
            drawn = source.permutation([place for place in places if right[place] == value]).astype(int)
            found[drawn] = (start + np.arange(len(drawn))) % count
            start += len(drawn)
    return found


def cross_fitted(
    candidate: Candidate,
    outcomes: Sequence[Outcome],
    off_corpus: Sequence[Outcome] = (),
    target: Target | None = None,
    seed: int = 0,
) -> Measured:
    """Fit without each fold in turn, and measure on it.

    Raises:
        PairsError: as ``check_enough``.
    """
    check_enough(outcomes)
    target = target or Target()
    folds, off_folds = folds_of(outcomes, seed), folds_of(off_corpus, seed)
    inside, outside = np.zeros(len(outcomes)), np.zeros(len(off_corpus))
    threshold, off_threshold = np.zeros_like(inside), np.zeros_like(outside)
    for fold in range(FOLDS):
        rest = [each for each, own in zip(outcomes, folds, strict=True) if own != fold]
        off_rest = [each for each, own in zip(off_corpus, off_folds, strict=True) if own != fold]
        found = fit_candidate(candidate, rest, off_rest)
        inside[folds == fold] = confidences_of(found, _of(outcomes, folds == fold))
        outside[off_folds == fold] = confidences_of(found, _of(off_corpus, off_folds == fold))
        bar = target.threshold(confidences_of(found, rest), rights(rest)).value
        threshold[folds == fold], off_threshold[off_folds == fold] = bar, bar
    return Measured(candidate, inside, folds, inside >= threshold, outside, outside >= off_threshold)


def _of(outcomes: Sequence[Outcome], chosen: npt.NDArray[np.bool_]) -> list[Outcome]:
    return [each for each, own in zip(outcomes, chosen, strict=True) if own]


def select(
    outcomes: Sequence[Outcome],
    off_corpus: Sequence[Outcome] = (),
    target: Target | None = None,
    seed: int = 0,
    method: CalibrationMethod | None = None,
    compared: Sequence[CalibrationMethod] = METHODS,
) -> Selection:
    """Compare the candidates of ``compared`` that can be fitted, and plain p(answer); ``method`` names the one to
    choose.

    Raises:
        PairsError: as ``check_enough``, or ``candidates_for``.
    """
    check_enough(outcomes)
    candidates_for(method, off_corpus)
    right = rights(outcomes)
    measured = [
        cross_fitted(each, outcomes, off_corpus, target, seed)
        for each in candidates_for(None, off_corpus)
        if each.method in ("none", *compared)
    ]
    plain = next(each for each in measured if each.candidate.method == "none")
    allowed = {id(each): not_worse(each, plain, outcomes) for each in measured}
    # The best of a method first: those that the rule lets through, then by loss.
    ordered = sorted(measured, key=lambda each: (not allowed[id(each)], each.loss(right)))
    best: dict[CalibrationMethod, Measured] = {}
    for each in ordered:
        best.setdefault(each.candidate.method, each)
    chosen = ordered[0].candidate.method if method is None else method
    bar = best[chosen].loss(right)
    refused = tuple(n for n, each in best.items() if not allowed[id(each)] and each.loss(right) < bar)
    order = list(dict.fromkeys(each.candidate.method for each in measured))
    return Selection({name: best[name] for name in order}, chosen, refused)


def not_worse(found: Measured, plain: Measured, outcomes: Sequence[Outcome]) -> bool:
    """Whether a candidate is as good as plain p(answer) in each group and in all together.

    It is where its AUROC within folds is not smaller, and its ECE not larger, or not larger than the chance error
    that perfect confidences of this number would show. Groups of fewer than ``ENOUGH_OF_EACH`` right or wrong
    answers do not count.
    """
    right = rights(outcomes)
    groups = [*groups_of(outcomes).values(), [*range(len(outcomes))]]
    return all(
        _not_worse_on(np.array(places), found, plain, right)
        for places in groups
        if min(right[places].sum(), len(places) - right[places].sum()) >= ENOUGH_OF_EACH
    )


def _not_worse_on(places: npt.NDArray[np.int_], found: Measured, plain: Measured, right: Floats) -> bool:
    own, other, outcome = found.confidences[places], plain.confidences[places], right[places]
    ordered, plainly = (auroc(each, outcome, found.folds[places]) for each in (own, other))
    if ordered is not None and plainly is not None and ordered < plainly - SAME:
        return False
    error = expected_calibration_error(own, outcome)
    return error <= expected_calibration_error(other, outcome) + SAME or error <= chance_error(own)


def fit(
    method: CalibrationMethod | None,
    outcomes: Sequence[Outcome],
    off_corpus: Sequence[Outcome] = (),
    *,
    settings: Settings | None = None,
    fitted_on: str = "",
    target: Target | None = None,
    seed: int = 0,
) -> ConfidenceMap:
    """The calibration of this method, None: of the one that ``select`` chooses, fitted on all outcomes.

    Raises:
        PairsError: as ``select``.
    """
    return fit_selected(
        select(outcomes, off_corpus, target, seed, method),
        outcomes,
        off_corpus,
        settings=settings,
        fitted_on=fitted_on,
        target=target,
    )


def fit_selected(
    selection: Selection,
    outcomes: Sequence[Outcome],
    off_corpus: Sequence[Outcome],
    *,
    settings: Settings | None = None,
    fitted_on: str = "",
    target: Target | None = None,
) -> ConfidenceMap:
    """The chosen candidate fitted on all outcomes, with the levels of its cross-fitted confidences."""
    measured = selection.methods[selection.chosen]
    calibration = fit_candidate(measured.candidate, outcomes, off_corpus)
    calibration = replace(calibration, fitted_on_questions=questions_of([*outcomes, *off_corpus]))
    return finished(
        calibration, outcomes, measured.confidences, target or Target(), settings=settings, fitted_on=fitted_on
    )
