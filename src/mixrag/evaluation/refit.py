"""A confidence fitted on answers that evaluations have stored: no model runs, and it takes seconds.

Every file of answers (``answers.jsonl`` of ``mixrag eval`` and ``mixrag train``) is a group of its own: one kind
of documents, which the choice of the map looks at (``selection.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mixrag.answers.confidence import RANGED, ConfidenceMap
from mixrag.config.command_settings import CalibrationSettings
from mixrag.errors import PairsError
from mixrag.evaluation.analysis import outcomes
from mixrag.evaluation.bootstrap import Interval
from mixrag.evaluation.calibration import Outcome, Target, confidences_of, groups_of, rights
from mixrag.evaluation.proportions import share
from mixrag.evaluation.records import RECORDS, stored
from mixrag.evaluation.scoring import Record, record_of
from mixrag.evaluation.selection import Measured, Selection, fit_selected, select
from mixrag.evaluation.trust_measures import Threshold, auroc, expected_calibration_error, precision_at

OFF_CORPUS = "off-corpus"
TRUSTED = ("mixture", "sequence", "trained")
"""The system whose answers are taken, the first of these that a file has."""


@dataclass(frozen=True)
class StoredAnswers:
    """The answers of one file."""

    name: str
    records: Sequence[Record]
    unanswerable: Sequence[Record] = ()
    """To questions that the documents do not answer."""


@dataclass(frozen=True, slots=True)
class GroupTrust:
    """One group before and after: p(answer) itself, and the confidence of fits that have not seen the answer."""

    group: str
    n: int
    right: Interval
    """Share of right answers."""
    auroc_before: float | None
    auroc_after: float | None
    """Both within folds, as confidences of different fits are not on one scale."""
    ece_before: float
    ece_after: float


@dataclass(frozen=True)
class Refit:
    """A calibration, and how it compares with p(answer)."""

    calibration: ConfidenceMap
    selection: Selection
    groups: tuple[GroupTrust, ...]
    """Each group, and all together under "all" where there are several."""
    threshold: Threshold
    coverage: float
    """Share of the questions at or above the threshold."""
    unanswerable_withheld: Interval | None
    """Share of the questions without an answer that stay below the threshold, by fits that have not seen them."""
    notices: tuple[str, ...] = field(default=())


def read_answers(given: str, system: str | None = None) -> StoredAnswers:
    """The answers of ``NAME=PATH`` or ``PATH``; a path is a file of answers, or the folder of a report.

    The name is the folder's where none is given. Off-corpus questions of the file are those without an answer.

    Raises:
        MixragError: no such file, or another kind of file.
        PairsError: no answers of this system, or answers of several models or stores.
    """
    head, equals, rest = given.partition("=")
    named = bool(equals) and not Path(given).exists()
    path = Path(rest if named else given)
    path = path / RECORDS if path.is_dir() else path
    lines = stored(path, record_of)
    by_system: dict[str, dict[str, list[Record]]] = {}
    for (key, _), record in lines.items():
        name, _, identity = key.partition(" ")
        if " +" not in key:  # with distractors
            by_system.setdefault(name, {}).setdefault(identity, []).append(record)
    chosen = system or next((name for name in TRUSTED if name in by_system), None)
    if chosen is None or chosen not in by_system:
        names = ", ".join(by_system) or "none"
        expected = f"answers of {chosen or ' or '.join(TRUSTED)} in {path}"
        raise PairsError(expected, names, "name a --system that it has")
    return StoredAnswers(
        head if named else path.resolve().parent.name,
        _of_one(by_system[chosen], path),
        _of_one(by_system.get(OFF_CORPUS, {"": []}), path),
    )


def _of_one(by_identity: Mapping[str, list[Record]], path: Path) -> list[Record]:
    if len(by_identity) > 1:
        found = f"{len(by_identity)} of them"
        raise PairsError(f"answers of one store and model in {path}", found, "evaluate into a new folder")
    return next(iter(by_identity.values()))


def refit(
    answers: Sequence[StoredAnswers],
    settings: CalibrationSettings | None = None,
    *,
    unanswerable: Sequence[StoredAnswers] = (),
    models: str | None = None,
    fitted_on: str = "",
) -> Refit:
    """Fit a confidence on stored answers.

    Args:
        answers: a group each.
        settings: method, target of the threshold, seed.
        unanswerable: further answers, to questions that the documents do not answer.
        models: digest of the models; None: that of the answers.
        fitted_on: the pairs in words; empty: the names of the groups.

    Raises:
        PairsError: too few answers, or answers under unlike settings or of several models.
    """
    chosen = settings or CalibrationSettings()
    target = Target(chosen.precision, chosen.coverage)
    inside = [*chain.from_iterable(outcomes(each.records, group=each.name) for each in answers)]
    outside = [*chain.from_iterable(outcomes(each.unanswerable, 0.0, each.name) for each in answers)]
    outside += [*chain.from_iterable(outcomes(each.records, 0.0, each.name) for each in unanswerable)]
    every = [*chain.from_iterable((*each.records, *each.unanswerable) for each in answers)]
    conditions, notices = valid_for(every)
    own = {record.models for record in every} - {""}
    if models is None and len(own) > 1:
        raise PairsError("answers of the same models", f"{len(own)} kinds", "calibrate each by itself")
    selection = select(inside, outside, target, chosen.seed, chosen.calibration)
    names = ", ".join(dict.fromkeys(each.name for each in answers))
    described = f"{fitted_on or names} ({len(inside)} questions, {rights(inside).sum():.0f} right)"
    calibration = fit_selected(selection, inside, outside, fitted_on=described, target=target)
    calibration = replace(calibration, settings=conditions, models=models or next(iter(own), ""))
    return _report(calibration, selection, inside, target, notices)


def valid_for(records: Sequence[Record]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings that a calibration of these answers holds for, [least, most] of k and switch, and notices.

    Raises:
        PairsError: another setting differs between them.
    """
    known = {json.dumps(record.settings, sort_keys=True, default=list): record.settings for record in records}
    if "{}" in known:
        notice = "some answers do not say under which settings they were given: the confidence is used with any"
        return {}, (notice,)
    found: dict[str, Any] = {}
    for name in next(iter(known.values()), {}):
        values = [*{json.dumps(each.get(name)): each.get(name) for each in known.values()}.values()]
        if len(values) > 1 and name not in RANGED:
            shown = " and ".join(map(str, values[:2]))
            raise PairsError(f"answers under the same {name}", shown, "calibrate each by itself")
        found[name] = values[0] if len(values) == 1 else _sorted(values)
    return found, ()


def _sorted(values: Sequence[Any]) -> list[Any]:
    numbers = sorted(value for value in values if isinstance(value, (int, float)))
    ends = [numbers[0], numbers[-1]] if numbers else []
    return [*ends, *(value for value in values if not isinstance(value, (int, float)))]


def _report(
    calibration: ConfidenceMap,
    selection: Selection,
    inside: Sequence[Outcome],
    target: Target,
    notices: tuple[str, ...],
) -> Refit:
    measured, plain = selection.methods[selection.chosen], selection.methods["none"]
    right, groups = rights(inside), groups_of(inside)
    if len(groups) > 1:
        groups["all"] = [*range(len(inside))]
    found = tuple(_group(name, np.array(places), plain, measured, right) for name, places in groups.items())
    confidences = confidences_of(calibration, inside)
    at = precision_at(confidences, right, calibration.threshold)
    reached = target.coverage is not None or (at is not None and at.mean >= target.precision)
    if not reached and at is not None:
        best = f"the best threshold has {at:.3f} of {at.n} answers right"
        notices += (f"no threshold has a share of {target.precision:g} right among the answers given: {best}",)
    if selection.refused:
        worse = ", ".join(selection.refused)
        notices += (f"not chosen, since worse than plain p(answer) in some group: {worse}",)
    withheld = (~measured.off_corpus_answered).tolist()
    return Refit(
        calibration,
        selection,
        found,
        Threshold(calibration.threshold, at, reached),
        float((confidences >= calibration.threshold).mean()),
        share(withheld) if withheld else None,
        notices,
    )


def _group(name: str, places: Any, plain: Measured, measured: Measured, right: Any) -> GroupTrust:
    own, folds = right[places], measured.folds[places]
    before, after = plain.confidences[places], measured.confidences[places]
    return GroupTrust(
        name,
        len(places),
        share(own.tolist()),
        auroc(before, own, folds),
        auroc(after, own, folds),
        expected_calibration_error(before, own),
        expected_calibration_error(after, own),
    )
