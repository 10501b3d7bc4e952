"""A confidence fitted on answers that evaluations have stored: no model runs, and it takes seconds.

Every file of answers (``answers.jsonl`` of ``mixrag eval`` and ``mixrag train``) is a group of its own: one kind
of documents, which the choice of the map looks at (``selection.py``). What was answered by other models, or under
other settings that matter, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from mixrag.answers.confidence import RANGED, ConfidenceMap, with_later_settings
from mixrag.config.command_settings import CalibrationSettings
from mixrag.errors import PairsError
from mixrag.evaluation.analysis import outcomes
from mixrag.evaluation.bootstrap import Interval
from mixrag.evaluation.calibration import Outcome, Target, groups_of, rights
from mixrag.evaluation.proportions import share
from mixrag.evaluation.records import RECORDS, stored
from mixrag.evaluation.scoring import Record, record_of
from mixrag.evaluation.selection import Measured, Selection, fit_selected, select
from mixrag.evaluation.trust_measures import Threshold, auroc, expected_calibration_error

OFF_CORPUS = "off-corpus"
ALL = "all"
"""What all groups together are called."""
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
    """Each group, and all together under ``ALL`` where there are several."""
    threshold: Threshold
    """Its value, with the share of right answers among those at or above it: each answer beside the threshold
    that the confidences of other folds set, by fits that have not seen its question."""
    coverage: float
    """Share of the questions with an answer that are answered so."""
    unanswerable: int
    """Questions without an answer."""
    unanswerable_withheld: Interval | None
    """Share of these that are not."""
    notices: tuple[str, ...] = field(default=())


def read_answers(given: str, system: str | None = None, *, unanswerable: bool = False) -> StoredAnswers:
    """The answers of ``NAME=PATH`` or ``PATH``; a path is a file of answers, or the folder of a report.

    The name is the folder's where none is given. Off-corpus questions of the file, and those of pairs without a
    gold answer, are those without an answer. With ``unanswerable`` they all are: its off-corpus questions, or
    where it has none those of the system.

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
    name = head if named else path.resolve().parent.name
    outside = _of_one(by_system.get(OFF_CORPUS, {"": []}), path)
    if unanswerable and outside and system is None:
        return StoredAnswers(name, (), outside)
    chosen = system or next((name for name in TRUSTED if name in by_system), None)
    if chosen is None or chosen not in by_system:
        names = ", ".join(by_system) or "none"
        expected = f"answers of {chosen or ' or '.join(TRUSTED)} in {path}"
        raise PairsError(expected, names, "name a --system that it has")
    records = _of_one(by_system[chosen], path)
    if unanswerable:
        return StoredAnswers(name, (), records)
    inside = [record for record in records if record.answerable]
    return StoredAnswers(name, inside, [*outside, *(record for record in records if not record.answerable)])


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
        answers: a group each; those of equal names get a number.
        settings: method, target of the threshold, seed.
        unanswerable: further answers, to questions that the documents do not answer.
        models: digest of the models that it is for; None: that of the answers.
        fitted_on: the pairs in words; empty: the names of the groups.

    Raises:
        PairsError: too few answers, or answers under unlike settings, of several models or of others.
    """
    chosen = settings or CalibrationSettings()
    target = Target(chosen.precision, chosen.coverage)
    groups = distinct(answers)
    inside = [*chain.from_iterable(outcomes(each.records, group=each.name) for each in groups)]
    outside = [*chain.from_iterable(outcomes(each.unanswerable, 0.0, each.name) for each in groups)]
    more = [*chain.from_iterable((*each.records, *each.unanswerable) for each in unanswerable)]
    outside += outcomes(more, 0.0, "unanswerable")
    every = [*chain.from_iterable((*each.records, *each.unanswerable) for each in groups), *more]
    conditions, notices = valid_for(every)
    own = _models_of(every, models)
    if right := sum(record.exact == 1.0 for record in more):
        notices += (
            f"{right} answers to questions without an answer have a gold answer and match it: counted as wrong",
        )
    selection = select(inside, outside, target, chosen.seed, chosen.calibration)
    names = ", ".join(each.name for each in groups)
    described = f"{fitted_on or names} ({len(inside)} questions, {rights(inside).sum():.0f} right)"
    calibration = fit_selected(selection, inside, outside, fitted_on=described, target=target)
    return _report(replace(calibration, settings=conditions, models=own), selection, inside, target, notices)


def distinct(answers: Sequence[StoredAnswers]) -> list[StoredAnswers]:
    """The same under names of their own: of equal ones, and of one called ``ALL``, all but the first get a number.

    >>> [each.name for each in distinct([StoredAnswers(name, ()) for name in ("law", "law", "all")])]
    ['law', 'law 2', 'all 2']
    """
    taken, found = {ALL, *(each.name for each in answers)}, []
    seen = {ALL}
    for each in answers:
        name = each.name
        if name in seen:
            name = next(new for number in count(2) if (new := f"{each.name} {number}") not in taken)
        seen.add(name)
        taken.add(name)
        found.append(replace(each, name=name))
    return found


def _models_of(records: Sequence[Record], models: str | None) -> str:
    """The digest of the models that all answers are of."""
    own = sorted({record.models for record in records} - {""})
    if len(own) > 1:
        raise PairsError("answers of the same models", f"those of {' and '.join(own)}", "calibrate each by itself")
    if models is not None and own and own[0] != models:
        found = f"answers of {own[0]}"
        raise PairsError(
            f"answers of the models of --model, {models}", found, "evaluate with this model, or leave it out"
        )
    return models or (own[0] if own else "")


def valid_for(records: Sequence[Record]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings that a calibration of these answers holds for, [least, most] of k and switch, and notices.

    Settings that there were not when a record was written have their defaults. Records of version 0.1 name none:
    of the others only these are known.

    Raises:
        PairsError: another setting differs between them.
    """
    known = {json.dumps(record.settings, sort_keys=True, default=list): record.settings for record in records}
    unknown = known.pop("{}", None) is not None
    notice = "some answers do not say their settings (k, decoder, …): the confidence is used with any of these"
    full = [with_later_settings(each) for each in known.values()]
    later = with_later_settings({}) if unknown else {}
    found: dict[str, Any] = {}
    for name in dict.fromkeys(chain(later, *full)):
        some = [each.get(name) for each in full] + ([later[name]] if name in later else [])
        values = [*{json.dumps(value): value for value in some}.values()]
        if len(values) > 1 and name not in RANGED:
            shown = " and ".join(map(str, values[:2]))
            raise PairsError(f"answers under the same {name}", shown, "calibrate each by itself")
        found[name] = values[0] if len(values) == 1 else _sorted(values)
    return found, (notice,) if unknown and not full else ()


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
    right, groups = rights(inside), [*groups_of(inside).items()]
    if len(groups) > 1:
        groups.append((ALL, [*range(len(inside))]))
    found = tuple(_group(name, np.array(places), plain, measured, right) for name, places in groups)
    at = measured.threshold
    if not at.reached and at.precision is not None:
        best = f"the best threshold has {at.precision.mean:.3f} of {at.precision.n} answers right"
        notices += (f"no threshold has a share of {target.precision:g} right among the answers given: {best}",)
    if selection.refused:
        worse = ", ".join(selection.refused)
        notices += (f"not chosen, since worse than plain p(answer) in some group: {worse}",)
    withheld = (~measured.off_corpus_answered).tolist()
    return Refit(
        calibration,
        selection,
        found,
        replace(at, precision=measured.precision(right)),
        float(measured.answered.mean()),
        len(withheld),
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
