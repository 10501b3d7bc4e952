"""A guarantee from end to end: answer the pairs, test thresholds on the confidence, write ``guarantee.json``.

The test is in ``certification.py``. The confidence must have been fitted on other questions: on those that
``confidence.json`` names, or on half of these (``split``). Pairs whose questions it was fitted on are left out, as
are those whose questions are asked for another kind of answer than a span: what is tested is what is covered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mixrag.answers.applied_calibration import apply_calibration, guaranteed_conditions
from mixrag.answers.confidence import FILE, ConfidenceMap, write_calibration
from mixrag.answers.guarantee import KIND, Guarantee, calibration_digest
from mixrag.answers.guarantee_file import FILE as GUARANTEE_FILE
from mixrag.answers.guarantee_file import write_guarantee
from mixrag.answers.pipeline import Pipeline
from mixrag.config.command_settings import CalibrationMethod, GuaranteeSettings
from mixrag.config.settings import MaxTokens
from mixrag.errors import MixragError, PairsError, SettingError
from mixrag.evaluation.analysis import outcomes
from mixrag.evaluation.calibration import ENOUGH, confidences_of, rights
from mixrag.evaluation.certification import Judged, certify, refusal
from mixrag.evaluation.records import fingerprint, identity, resume, with_filter
from mixrag.evaluation.refit import OFF_CORPUS
from mixrag.evaluation.scoring import Record, record_of, score_pairs
from mixrag.evaluation.selection import fit
from mixrag.evaluation.systems import OWN
from mixrag.pairs.pairs import Pair, Pairs, PairSource, pairs_from, question_digest, sample
from mixrag.probability import fewest_answered
from mixrag.utils.progress import Progress

_logger = logging.getLogger("mixrag.evaluation")
METHOD: CalibrationMethod = "logistic"
"""What ``split`` fits: of few parameters, so that half of the pairs will do."""


@dataclass(frozen=True)
class GuaranteeRequest:
    """What is guaranteed, on which pairs."""

    pairs: PairSource
    """Those without an answer are questions to which every answer is wrong."""
    out: Path | None = None
    """Folder for guarantee.json, and for the confidence.json that it is about; None: nothing is written."""
    settings: GuaranteeSettings = field(default_factory=GuaranteeSettings)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The pairs by what they are for."""

    fit: Sequence[Pair]
    """Those that a confidence is fitted on; none where there is one."""
    test: Sequence[Pair]
    overlapping: int | None
    """Pairs left out because the confidence is fitted on their questions; None: it does not say on which."""
    other_kinds: int
    """Pairs left out because their questions are asked for another kind of answer."""


def guarantee(rag: Pipeline, request: GuaranteeRequest, progress: Progress | None = None) -> Guarantee:
    """Answer the pairs, find the threshold, and write it; ``mixrag guarantee`` and ``RAG.guarantee_on`` call it.

    Raises:
        SettingError: no calibration applies, and half of the pairs is not to fit one; or answers of a kind that no
            guarantee covers.
        PairsError: pairs that cannot be read, that are too few, or on which the target is not met.
        MixragError: a folder that cannot be written, or as ``Pipeline.ask``.
    """
    chosen = request.settings
    read = pairs_from(request.pairs, unanswerable=True)
    for notice in read.notices:
        _logger.info(notice)
    _check_kind(rag)
    parts = _parts(rag, read, chosen)
    _check_number(parts, chosen)
    given = None if chosen.split else _applied(rag)
    records = answered(rag, [*parts.fit, *parts.test], chosen.answers, progress)
    first, rest = records[: len(parts.fit)], records[len(parts.fit) :]
    calibration = given or _fitted(first, rag, read.sources)
    other = _judged(rag, parts.fit, first, calibration, chosen)
    judged = _judged(rag, parts.test, rest, calibration, chosen)
    found = Guarantee(
        risk=chosen.risk,
        delta=chosen.delta,
        groups=certify(judged, chosen, other),
        by=chosen.by or "",
        simultaneous=chosen.simultaneous,
        pairs=f"{', '.join(read.sources)} ({len(parts.test)} questions)",
        sources=tuple(zip(read.sources, read.digests, strict=True)),
        overlapping=parts.overlapping,
        other_kinds=parts.other_kinds,
        fitted_on=calibration.fitted_on,
        settings=guaranteed_conditions(rag.settings),
        models=rag.models_digest,
        calibration=calibration_digest(calibration),
        documents=rag.documents_digest,
    )
    if all(each.threshold is None for each in found.groups):
        raise refusal(judged, found)
    if request.out is not None:
        _write(found, calibration, request.out)
    return found


def _check_kind(rag: Pipeline) -> None:
    if rag.settings.kind not in ("auto", KIND):
        remedy = "other kinds have no confidence, or are no span that gold answers are compared with"
        raise SettingError("kind auto or span", rag.settings.kind, remedy)


def _parts(rag: Pipeline, read: Pairs, chosen: GuaranteeSettings) -> _Parts:
    """Which pairs are asked; no model runs."""
    asked = [pair for pair in read.pairs if rag.kind(pair.question) == KIND]
    first = set(sample(range(len(asked)), len(asked) // 2, chosen.seed)) if chosen.split else set()
    fit, rest = ([pair for i, pair in enumerate(asked) if (i in first) is own] for own in (True, False))
    own, given = (question_digest(pair.question) for pair in fit), rag.calibration
    known = {*own} if chosen.split else {*given.fitted_on_questions} if given else set()
    test = [pair for pair in rest if question_digest(pair.question) not in known]
    return _Parts(fit, test, len(rest) - len(test) if known else None, len(read.pairs) - len(asked))


def _check_number(parts: _Parts, chosen: GuaranteeSettings) -> None:
    """Refuse before any question is asked what so few pairs cannot show."""
    least = fewest_answered(0, chosen.risk, chosen.delta)
    if len(parts.test) >= least and (not chosen.split or len(parts.fit) >= ENOUGH):
        return
    found = str(len(parts.fit) + len(parts.test))
    if parts.overlapping:
        found += f", and {parts.overlapping} whose questions the confidence was fitted on"
    if parts.other_kinds:
        found += f", and {parts.other_kinds} that ask for another kind of answer"
    wanted = 2 * max(least, ENOUGH) if chosen.split else least
    expected = f"{wanted} pairs or more for a risk of {chosen.risk:g} at delta {chosen.delta:g}"
    remedy = f"add pairs: it takes {least} right answers of {least} that are given, and more where one is wrong"
    raise PairsError(expected, found, remedy)


def _applied(rag: Pipeline) -> ConfidenceMap:
    settings = replace(rag.settings, guaranteed_only=False, abstain_below=None)
    applied = apply_calibration(rag.calibration, settings, rag.models_digest)
    if applied is None or applied.mismatch:
        found = "none" if applied is None else f"one made with another {applied.mismatch}"
        remedy = "name one as --confidence, or fit it on half of the pairs: --split"
        raise SettingError("a calibration that applies", found, remedy)
    return applied.calibration


def _fitted(records: Sequence[Record], rag: Pipeline, sources: Sequence[str]) -> ConfidenceMap:
    """A confidence under which every answer is given, with the share of these that is right."""
    words = f"half of {', '.join(sources)} ({len(records)} questions)"
    known = outcomes(records)
    found = fit(METHOD, known, settings=rag.settings, fitted_on=words)
    return replace(found, models=rag.models_digest, threshold=0.0, precision=float(rights(known).mean()))


def answered(
    rag: Pipeline, pairs: Sequence[Pair], answers: Path | None, progress: Progress | None
) -> list[Record]:
    """A record of each pair: from ``answers`` where it has one of these models, store and settings, else asked.

    Questions without an answer are stored as those of another corpus, which ``mixrag calibrate`` knows for wrong.
    """
    own = identity(rag)
    known = {}
    for (system, key), record in ({} if answers is None else resume(answers, record_of)).items():
        name, *rest = system.split()
        if rest == [own] and name:  # not one with passages added
            known[key] = record
    keys = [fingerprint(rag, pair, {}) for pair in pairs]
    missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
    for system, stated in ((OWN, True), (OFF_CORPUS, False)):
        some = {key: pair for key, pair in missing.items() if bool(pair.answers) is stated}
        asked = score_pairs(rag, [*some.values()], {}, out=answers, system=f"{system} {own}", progress=progress)
        known.update(zip(some, asked, strict=True))
    return [known[key] for key in keys]


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
            confidence if _is_finished(record, rag.settings.max_tokens) else -1.0,
            record.exact == 1.0,
            _group(rag, pair, record, chosen.by) if chosen.by else "",
        )
        for pair, record, confidence in zip(pairs, records, confidences, strict=True)
    ]


def _is_finished(record: Record, max_tokens: MaxTokens) -> bool:
    if record.finished is None:  # a record of an earlier version, which knew no "all"
        return max_tokens != "all" and record.tokens < max_tokens
    return record.finished


def _group(rag: Pipeline, pair: Pair, record: Record, key: str) -> str:
    """What the metadata of the document that most probably wrote the answer say; no language model runs."""
    if not record.posteriors:
        return ""
    best = max(range(len(record.posteriors)), key=record.posteriors.__getitem__)
    with rag.every_shard():  # without one, the places of the passages would be others than those of the record
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
