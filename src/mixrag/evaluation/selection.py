"""Which calibration: all candidates cross-fitted on the same folds, and the rule that chooses between them.

Each answer gets a confidence of a fit that has not seen its question (K-fold cross-validation, Stone 1974), so
that all pairs are used for fitting and for measuring. The candidate with the least cross-validated log loss is
chosen among those that are not worse than plain p(answer) in any group of the pairs (``not_worse``). The
threshold and the share right at each level in words are of these confidences too; the map itself is then fitted
on all pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixrag.answers.confidence import ConfidenceMap, conditions
from mixrag.config.command_settings import CalibrationMethod
from mixrag.config.settings import Settings
from mixrag.evaluation.bootstrap import Interval
from mixrag.evaluation.calibration import (
    ENOUGH_OF_EACH,
    METHODS,
    Candidate,
    Outcome,
    Target,
    candidates_for,
    check_enough,
    confidences_of,
    groups_of,
    levels_of,
    questions_of,
    rights,
    with_unanswerable,
)
from mixrag.evaluation.map_fits import fit_candidate
from mixrag.evaluation.trust_measures import (
    SAME,
    Threshold,
    auroc_difference,
    chance_errors,
    expected_calibration_error,
    log_loss,
    share_right,
)
from mixrag.pairs.matching import normalise
from mixrag.utils.arrays import Floats

FOLDS = 5
"""Each fit sees four fifths of the pairs, and a fold has pairs enough to order right and wrong answers."""

BY_CHANCE = 0.95
"""Share of the draws in which perfect confidences have less error than what counts as an error."""
WORSE = 1.645
"""Standard errors below which a smaller AUROC may be chance: a one-sided test at 0.05."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Confidences of answers, each by a calibration that was fitted without the fold in which the question is."""

    candidate: Candidate
    confidences: Floats
    """(n,)"""
    folds: npt.NDArray[np.int_]
    """(n,) which fold."""
    answered: npt.NDArray[np.bool_]
    """(n,) True where the confidence reaches the threshold that the other folds' confidences set."""
    off_corpus: Floats
    """(m,) confidences for questions that the documents do not answer."""
    off_corpus_answered: npt.NDArray[np.bool_]
    """(m,)"""
    threshold: Threshold
    """What all these confidences set."""

    def loss(self, right: Floats) -> float:
        """Mean log loss, each question counting as ``with_unanswerable`` says."""
        every, correct, count = with_unanswerable(self.confidences, right, self.off_corpus)
        return log_loss(every, correct, weights=count)

    def precision(self, right: Floats) -> Interval | None:
        """Share of right answers among those answered, in all questions; None where none is."""
        answered = np.concatenate([self.answered, self.off_corpus_answered])
        _, correct, count = with_unanswerable(self.confidences, right, self.off_corpus)
        return share_right(correct, answered, count)


@dataclass(frozen=True, slots=True)
class Selection:
    """What was compared, and what was chosen."""

    methods: Mapping[CalibrationMethod, Measured]
    """The best candidate of each method."""
    chosen: CalibrationMethod
    refused: tuple[CalibrationMethod, ...]
    """Methods of less log loss that are worse than plain p(answer) in some group."""


def folds_of(outcomes: Sequence[Outcome], seed: int = 0, count: int = FOLDS) -> npt.NDArray[np.int_]:
    """(n,) the fold of each outcome: all answers to one question (its text normalised) are in one.

    Questions with right and with wrong answers of each group are spread over all folds.
    """
    source = np.random.default_rng(seed)
    # An answer whose question is not known is taken for the only one to its own.
    texts = [normalise(each.question) or f"\0{place}" for place, each in enumerate(outcomes)]
    first = {text: place for place, text in reversed([*enumerate(texts)])}
    right, fold_of, start = rights(outcomes), dict[str, int](), 0
    for places in groups_of(outcomes).values():
        for value in (0.0, 1.0):
            alike = [texts[place] for place in places if first[texts[place]] == place and right[place] == value]
            for number, drawn in enumerate(source.permutation(len(alike)).tolist()):
                fold_of[alike[drawn]] = (start + number) % count
            start += len(alike)
    return np.array([fold_of[text] for text in texts], np.int_)


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
    target, right = target or Target(), rights(outcomes)
    folds, off_folds = np.split(folds_of([*outcomes, *off_corpus], seed), [len(outcomes)])
    inside, outside = np.zeros(len(outcomes)), np.zeros(len(off_corpus))
    for fold in range(FOLDS):
        found = fit_candidate(candidate, _of(outcomes, folds != fold), _of(off_corpus, off_folds != fold))
        inside[folds == fold] = confidences_of(found, _of(outcomes, folds == fold))
        outside[off_folds == fold] = confidences_of(found, _of(off_corpus, off_folds == fold))
    answered, off_answered = np.zeros(len(inside), np.bool_), np.zeros(len(outside), np.bool_)
    for fold in range(FOLDS):
        rest, off_rest = folds != fold, off_folds != fold
        bar = target.threshold(inside[rest], right[rest], outside[off_rest]).value
        answered[~rest], off_answered[~off_rest] = inside[~rest] >= bar, outside[~off_rest] >= bar
    threshold = target.threshold(inside, right, outside)
    return Measured(candidate, inside, folds, answered, outside, off_answered, threshold)


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

    It is where its AUROC within folds is not smaller, or by no more than ``WORSE`` standard errors of the
    difference (DeLong et al. 1988), and its ECE not larger, or not larger than that of perfect confidences of
    this number in ``BY_CHANCE`` of the draws. Groups of fewer than ``ENOUGH_OF_EACH`` right or wrong answers do
    not count.
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
    gain, spread = auroc_difference(own, other, outcome, found.folds[places])
    if gain < -WORSE * spread - SAME:
        return False
    error = expected_calibration_error(own, outcome)
    if error <= expected_calibration_error(other, outcome) + SAME:
        return True
    return error <= float(np.quantile(chance_errors(own), BY_CHANCE))


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
    """The chosen candidate fitted on all outcomes, with threshold and levels of its cross-fitted confidences.

    Args:
        selection: of these outcomes.
        outcomes: answers to questions that the documents answer.
        off_corpus: answers to others.
        settings: under which the answers were given; None: any.
        fitted_on: which pairs, in words.
        target: of the threshold, as in ``select``.
    """
    measured, aim = selection.methods[selection.chosen], target or Target()
    return replace(
        fit_candidate(measured.candidate, outcomes, off_corpus),
        threshold=measured.threshold.value,
        precision=aim.stated(measured.threshold),
        levels=levels_of(measured.confidences, rights(outcomes), measured.off_corpus),
        fitted_on=fitted_on,
        fitted_on_questions=questions_of([*outcomes, *off_corpus]),
        settings={} if settings is None else conditions(settings),
    )
