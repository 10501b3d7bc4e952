"""A guarantee from end to end: answer the pairs, test thresholds on the confidence, write ``guarantee.json``.

The mathematics, and why the tests hold, is in ``probability/risk.py``. The confidence must have been fitted on
other pairs: on those of ``confidence.json``, or on half of these (``split``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixrag.answers.confidence import (
    FILE,
    ConfidenceMap,
    apply_calibration,
    conditions,
    write_calibration,
)
from mixrag.answers.guarantee import FILE as GUARANTEE_FILE
from mixrag.answers.guarantee import CertifiedGroup, Guarantee, calibration_digest, write_guarantee
from mixrag.answers.pipeline import Pipeline
from mixrag.config.command_settings import CalibrationMethod, GuaranteeSettings
from mixrag.errors import MixragError, PairsError, SettingError
from mixrag.evaluation.analysis import outcomes
from mixrag.evaluation.calibration import confidences_of
from mixrag.evaluation.records import fingerprint, identity, resume, with_filter
from mixrag.evaluation.scoring import Record, record_of, score_pairs
from mixrag.evaluation.selection import fit
from mixrag.evaluation.systems import OWN
from mixrag.pairs.pairs import Pair, PairSource, pairs_from, sample
from mixrag.probability import (
    best_start,
    conformal_threshold,
    fewest_answered,
    last_accepted,
    most_coverage,
    pairs_needed,
    upper_risk,
)
from mixrag.utils.arrays import Floats
from mixrag.utils.progress import Progress

STEPS = 100
"""Thresholds that are tested."""
FARTHEST = 7.0
"""Log-odds of the strictest, where no other pairs say where confidences lie; minus it, of the laxest but 0."""
METHOD: CalibrationMethod = "logistic"
"""What ``split`` fits: of few parameters, so that half of the pairs will do."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The confidence of an answer, and whether it was right."""

    confidence: float
    """-1 where the answer was cut off: it has no confidence, and is never covered."""
    right: bool
    group: str = ""
    """Kind of the document that most probably wrote it."""


@dataclass(frozen=True)
class GuaranteeRequest:
    """What is guaranteed, on which pairs."""

    pairs: PairSource
    out: Path | None = None
    """Folder for guarantee.json, and for the confidence.json that it is about; None: nothing is written."""
    settings: GuaranteeSettings = field(default_factory=GuaranteeSettings)


def guarantee(rag: Pipeline, request: GuaranteeRequest, progress: Progress | None = None) -> Guarantee:
    """Answer the pairs, find the threshold, and write it; ``mixrag guarantee`` and ``RAG.guarantee`` call it.

    Raises:
        SettingError: no calibration applies, and half of the pairs is not to fit one.
        PairsError: pairs that cannot be read, that are too few, or on which the target is not met.
        MixragError: a folder that cannot be written, or as ``Pipeline.ask``.
    """
    chosen = request.settings
    read = pairs_from(request.pairs)
    _check_number(len(read.pairs), chosen)
    given = None if chosen.split else _applied(rag)
    if given is not None and (both := [name for name in read.sources if name in given.fitted_on]):
        seen = f"{both[0]}, which the confidence was fitted on"
        raise PairsError("pairs that the confidence was not fitted on", seen, "give others, or use --split")
    first = set(sample(range(len(read.pairs)), len(read.pairs) // 2, chosen.seed)) if chosen.split else set()
    records = answered(rag, read.pairs, chosen.answers, progress)
    words = f"{', '.join(read.sources)} ({len(read.pairs) - len(first)} questions)"
    calibration = given or _fitted([records[i] for i in sorted(first)], rag, read.sources)
    judged = _judged(rag, read.pairs, records, calibration, chosen)
    rest = [each for i, each in enumerate(judged) if i not in first]
    other = [judged[i] for i in sorted(first)]
    found = Guarantee(
        risk=chosen.risk,
        delta=chosen.delta,
        groups=certify(rest, chosen, other),
        by=chosen.by or "",
        simultaneous=chosen.simultaneous,
        pairs=words,
        fitted_on=calibration.fitted_on,
        settings=conditions(rag.settings),
        models=rag.models_digest,
        calibration=calibration_digest(calibration),
    )
    if all(each.threshold is None for each in found.groups):
        raise refusal(rest, found)
    if request.out is not None:
        _write(found, calibration, request.out)
    return found


def certify(
    judged: Sequence[Judged], chosen: GuaranteeSettings, other: Sequence[Judged] = ()
) -> tuple[CertifiedGroup, ...]:
    """The test on each kind that ``judged`` has, in the order of their names.

    ``other`` are answers of pairs that the confidence was fitted on: they choose the thresholds and where to
    start, and a kind that misses the target at all of these is not tested. Without them thresholds are even in
    log-odds, and those that answer too few are left out.

    Raises:
        PairsError: no document has the key.
    """
    names = sorted({each.group for each in judged} - {""}) if chosen.by else [""]
    if not names:
        raise PairsError(f"answers from documents with {chosen.by!r} in their metadata", "none", "check the key")
    delta = chosen.delta / len(names) if chosen.simultaneous else chosen.delta
    return tuple(
        _certified(
            name,
            [each for each in judged if not chosen.by or each.group == name],
            [each for each in other if not chosen.by or each.group == name],
            chosen.risk,
            delta,
        )
        for name in names
    )


def _certified(
    name: str, judged: Sequence[Judged], other: Sequence[Judged], risk: float, delta: float
) -> CertifiedGroup:
    thresholds = even_thresholds() if not other else _quantiles(other)
    start, reachable = None, True
    if other:
        before, bad_before = _counts(other, thresholds)
        start, reachable = best_start(before, bad_before, risk), bool((bad_before < risk * before).any())
    answers, wrong = _counts(judged, thresholds)
    place = int(last_accepted(answers, wrong, risk, delta, start)) if reachable else -1
    confidences = torch.tensor([each.confidence for each in judged], dtype=torch.float64)
    errors = torch.tensor([not each.right for each in judged])
    # What is cut off is never given, so that its loss is zero.
    control = conformal_threshold(confidences, errors & (confidences >= 0), risk)
    group = CertifiedGroup(name, len(judged), int(errors.sum()), control=control)
    if place < 0:
        return group
    number, bad = int(answers[place]), int(wrong[place])
    return replace(
        group,
        threshold=float(thresholds[place]),
        answered=number,
        wrong=bad,
        upper=upper_risk(number, bad, delta),
    )


def even_thresholds() -> Floats:
    """(m,) from strict to lax: even in log-odds, and 0, where every answer is given."""
    return np.append(1 / (1 + np.exp(-np.linspace(FARTHEST, -FARTHEST, STEPS - 1))), 0.0)


def _quantiles(other: Sequence[Judged]) -> Floats:
    """(m,) distinct confidences of other pairs, from strict to lax, and 0."""
    values = np.unique([max(0.0, each.confidence) for each in other] + [0.0])
    chosen: Floats = values[np.unique(np.linspace(0, len(values) - 1, STEPS).astype(int))][::-1].copy()
    return chosen


def _counts(judged: Sequence[Judged], thresholds: Floats) -> tuple[Tensor, Tensor]:
    """(m,) answered and (m,) wrong at each threshold."""
    given = np.array([each.confidence for each in judged])[:, None] >= thresholds
    wrong = given & ~np.array([each.right for each in judged])[:, None]
    return torch.from_numpy(given.sum(0)), torch.from_numpy(wrong.sum(0))


def refusal(judged: Sequence[Judged], found: Guarantee) -> PairsError:
    """Why no threshold was accepted, and how many pairs it would take if the confidence is right."""
    share = f"{100 * (1 - found.risk):g} %"
    wrong = sum(not each.right for each in judged) / len(judged)
    most = most_coverage(wrong, found.risk)
    needed = _expected_pairs([each.confidence for each in judged], found.risk, found.delta)
    if needed is None:
        remedy = "a larger --risk; the confidence itself expects no answers of so few errors"
    else:
        remedy = f"about {needed} pairs, if the confidence is right, or a larger --risk"
    return PairsError(
        f"answers of which {share} are right, with probability {100 * (1 - found.delta):g} %",
        f"none such on {len(judged)} pairs: {100 * wrong:.0f} % of all answers are wrong, so that even a perfect "
        f"confidence answers {100 * most:.0f} % at most",
        f"it takes {remedy}",
    )


def _expected_pairs(confidences: Sequence[float], risk: float, delta: float) -> int | None:
    """Pairs at which some threshold is expected to pass, the confidences taken at their word."""
    given = np.array(confidences)
    needs = []
    for threshold in even_thresholds()[::5]:
        covered = given[given >= threshold]
        if len(covered):
            needs.append(pairs_needed(len(covered) / len(given), 1 - float(covered.mean()), risk, delta))
    return min((each for each in needs if each is not None), default=None)


def _check_number(count: int, chosen: GuaranteeSettings) -> None:
    """Refuse before any question is asked what so few pairs cannot show."""
    least = fewest_answered(0, chosen.risk, chosen.delta)
    if count // (2 if chosen.split else 1) >= least:
        return
    wanted = 2 * least if chosen.split else least
    expected = f"{wanted} pairs or more for a risk of {chosen.risk:g} at delta {chosen.delta:g}"
    remedy = f"add pairs: it takes {least} right answers of {least} that are given, and more where one is wrong"
    raise PairsError(expected, f"{count}", remedy)


def _applied(rag: Pipeline) -> ConfidenceMap:
    settings = replace(rag.settings, guaranteed_only=False, abstain_below=None)
    applied = apply_calibration(rag.calibration, settings, rag.models_digest)
    if applied is None or applied.mismatch:
        found = "none" if applied is None else f"one made with another {applied.mismatch}"
        remedy = "name one as --confidence, or fit it on half of the pairs: --split"
        raise SettingError("a calibration that applies", found, remedy)
    return applied.calibration


def _fitted(records: Sequence[Record], rag: Pipeline, sources: Sequence[str]) -> ConfidenceMap:
    words = f"half of {', '.join(sources)} ({len(records)} questions)"
    found = fit(METHOD, outcomes(records), settings=rag.settings, fitted_on=words)
    return replace(found, models=rag.models_digest, threshold=0.0)


def answered(
    rag: Pipeline, pairs: Sequence[Pair], answers: Path | None, progress: Progress | None
) -> list[Record]:
    """A record of each pair: from ``answers`` where it has one of these models, store and settings, else asked."""
    own = identity(rag)
    known = {}
    for (system, key), record in ({} if answers is None else resume(answers, record_of)).items():
        name, *rest = system.split()
        if rest == [own] and name:  # not one with passages added
            known[key] = record
    keys = [fingerprint(rag, pair, {}) for pair in pairs]
    missing = [pair for pair, key in zip(pairs, keys, strict=True) if key not in known]
    asked = score_pairs(rag, missing, {}, out=answers, system=f"{OWN} {own}", progress=progress)
    fresh = iter(asked)
    return [known[key] if key in known else next(fresh) for key in keys]


def _judged(
    rag: Pipeline,
    pairs: Sequence[Pair],
    records: Sequence[Record],
    calibration: ConfidenceMap,
    chosen: GuaranteeSettings,
) -> list[Judged]:
    confidences = confidences_of(calibration, outcomes(records)).tolist()
    return [
        Judged(
            -1.0 if record.tokens >= rag.settings.max_tokens else confidence,
            record.exact == 1.0,
            _group(rag, pair, record, chosen.by) if chosen.by else "",
        )
        for pair, record, confidence in zip(pairs, records, confidences, strict=True)
    ]


def _group(rag: Pipeline, pair: Pair, record: Record, key: str) -> str:
    """What the metadata of the document that most probably wrote the answer say; no language model runs."""
    if not record.posteriors:
        return ""
    best = max(range(len(record.posteriors)), key=record.posteriors.__getitem__)
    passages = rag.passages(pair.question, **with_filter(rag, pair, {})).passages
    return str(passages[best].metadata.get(key, ""))


def _write(found: Guarantee, calibration: ConfidenceMap, out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MixragError("a folder to write to", f"{out}: {error.strerror or error}", "choose another") from error
    # First what is there would be of another confidence: without it the new one has no guarantee, which is true.
    (out / GUARANTEE_FILE).unlink(missing_ok=True)
    write_calibration(calibration, out / FILE)
    write_guarantee(found, out / GUARANTEE_FILE)
