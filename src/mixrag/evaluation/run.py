"""An evaluation from end to end: ask every question of every system, measure, and write the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mixrag.answers.applied_calibration import apply_calibration
from mixrag.answers.confidence import FILE, ConfidenceMap, write_calibration
from mixrag.answers.pipeline import Pipeline
from mixrag.config.command_settings import EvaluationSettings
from mixrag.config.settings import Settings
from mixrag.errors import MixragError, PairsError, SettingError
from mixrag.evaluation.analysis import Evaluation, adaptive_k, measured, outcomes
from mixrag.evaluation.calibration import Target
from mixrag.evaluation.distractors import DistractorKind, distracted
from mixrag.evaluation.records import RECORDS, identity
from mixrag.evaluation.report import write_report
from mixrag.evaluation.scoring import Record, score_pairs
from mixrag.evaluation.selection import fit_selected
from mixrag.evaluation.systems import OWN, System, named_systems
from mixrag.evaluation.trust import ENOUGH_TO_JUDGE, judge
from mixrag.inference.decoders import recorded
from mixrag.pairs.pairs import Pair, PairSource, are_given, pairs_from, sample
from mixrag.utils.extras import require_extra
from mixrag.utils.progress import Progress, guarded, labelled

_logger = logging.getLogger("mixrag.evaluation")


@dataclass(frozen=True)
class EvaluationRequest:
    """What is compared, on which pairs."""

    pairs: PairSource
    out: Path | None = None
    """Folder for the report, and for the answers that a killed run continues from; None: nothing is written."""
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)
    off_corpus: PairSource | None = None
    """Pairs that the corpus cannot answer; None: those of the settings."""
    command: str = ""
    """What was typed, for the report."""


def evaluate(rag: Pipeline, request: EvaluationRequest, progress: Progress | None = None) -> Evaluation:
    """Score and measure, and write ``request.out``; the same call continues where a killed one stopped.

    ``mixrag eval`` and ``RAG.evaluate`` both call it. Progress has the stage "answering"; detail: the system.

    Raises:
        SettingError: a system that does not exist, or a number outside its range.
        PairsError: pairs that cannot be read, or asked.
        MissingPackageError: a package of the extra ``eval`` is not installed.
        MixragError: the folder cannot be written to, or as ``Pipeline.ask``.
    """
    require_extra("eval", "an evaluation")
    systems = named_systems(request.settings.systems)
    pairs, sources = _sampled(request.pairs, request)
    off_corpus = [*_off_corpus(request), *(pair for pair in pairs if not pair.answers)]
    pairs = _with_answers(pairs)
    _check_distractors(rag, request, pairs)
    if request.out is not None:
        _make_folder(request.out)
    # Load what is needed before the clock runs.
    _ = rag.generator
    if any(system.changes.get("k", rag.settings.k) != 0 for system in systems.values()):
        _ = rag.retriever
    asking = _Asking(rag, request, guarded(progress), identity(rag))
    records = {name: asking.records(name, system, pairs) for name, system in systems.items()}
    trusted = trusted_system(systems)
    asked = replace(rag.settings, **systems[trusted].changes)
    outside = asking.records("off-corpus", systems[trusted], off_corpus) if off_corpus else []
    target = Target(request.settings.precision, request.settings.coverage)
    found = measured(records, outside, trusted, target, request.settings.seed, request.settings.calibration)
    found = replace(
        found,
        sources=sources,
        distractors=asking.distracted(systems, pairs),
        settings=recorded(asked),
        command=request.command,
    )
    found = replace(found, calibration=_calibration(found, records[trusted], outside, target, rag, asked))
    found = _with_adaptive_k(found, rag, pairs)
    found = _with_confidence_in_use(found, records[trusted], outside, rag, asked)
    for notice in found.notices:
        _logger.info(notice)
    if request.out is not None:
        _write_confidence(found, request.out / FILE)
        write_report(found, request.out)
    return found


def trusted_system(systems: Mapping[str, System]) -> str:
    """The system whose confidence is calibrated: the mixture, else the last one named."""
    return next((name for name in (OWN, "sequence") if name in systems), [*systems][-1])


@dataclass(frozen=True)
class _Asking:
    rag: Pipeline
    request: EvaluationRequest
    progress: Progress
    identity: str

    def records(
        self, name: str, system: System, pairs: Sequence[Pair], rag: Pipeline | None = None
    ) -> list[Record]:
        return score_pairs(
            rag or self.rag,
            pairs,
            system.changes,
            out=None if self.request.out is None else self.request.out / RECORDS,
            system=f"{name} {self.identity}",
            progress=labelled(self.progress, name),
        )

    def distracted(
        self, systems: Mapping[str, System], pairs: Sequence[Pair]
    ) -> dict[str, dict[str, dict[int, list[Record]]]]:
        """By kind, system and number of distractors; what closed book never sees is left out."""
        compared = {name: system for name, system in systems.items() if system.changes.get("k", 1) != 0}
        kinds: tuple[DistractorKind, ...] = ("random", "adversarial") if self.request.settings.distractors else ()
        return {
            kind: {
                name: {
                    count: self.records(
                        f"{name} +{count} {kind}", system, pairs, distracted(self.rag, pairs, count, kind)
                    )
                    for count in self.request.settings.distractors
                }
                for name, system in compared.items()
            }
            for kind in kinds
        }


def _check_distractors(rag: Pipeline, request: EvaluationRequest, pairs: Sequence[Pair]) -> None:
    """Refuse distractors where they cannot be had, before any question is asked."""
    if not request.settings.distractors:
        return
    if rag.settings.max_outside is not None:
        raise SettingError("--distractors with a fixed k", "--max-outside", "leave one of them out")
    where = {**rag.settings.where, **pairs[0].where}
    try:
        count = len(rag.passages(pairs[0].question, k="all", where=where).passages)
    except SettingError as error:  # of an approximate index, or of a server with more passages than it gives
        remedy = f"leave --distractors out, which need all passages, or {error.remedy}"
        raise SettingError(error.expected, error.found, remedy) from None
    least = count - (count if rag.settings.k == "all" else rag.settings.k)
    if least < max(request.settings.distractors):
        _logger.warning(
            f"the store has {max(0, least)} passages besides the k retrieved, fewer than the distractors asked for"
        )


def _sampled(source: PairSource, request: EvaluationRequest) -> tuple[list[Pair], tuple[str, ...]]:
    """At most so many pairs as are wanted, and what they are called."""
    read = pairs_from(source, unanswerable=True)
    for notice in read.notices:
        _logger.info(notice)
    return sample(read.pairs, request.settings.questions or len(read.pairs), request.settings.seed), read.sources


def _off_corpus(request: EvaluationRequest) -> list[Pair]:
    """Those with an answer lose filters and documents, which are those of another corpus."""
    source = request.settings.off_corpus if request.off_corpus is None else request.off_corpus
    if not are_given(source):
        return []
    found, _ = _sampled(source, request)
    return [replace(pair, where={}, document=None) if pair.answers else pair for pair in found]


def _with_answers(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that scores are of; the others are questions to which every answer is wrong."""
    found = [pair for pair in pairs if pair.answers]
    if not found:
        raise PairsError("pairs with an answer to score", f"none among {len(pairs)}", "give them as --off-corpus")
    if without := len(pairs) - len(found):
        _logger.info(f"{without} of {len(pairs)} pairs have no answer: they are asked, and not scored")
    return found


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"{out}: {error.strerror or error}"
        raise MixragError("a folder for the report", found, "choose another --out") from error


def _calibration(
    found: Evaluation,
    records: Sequence[Record],
    off_corpus: Sequence[Record],
    target: Target,
    rag: Pipeline,
    settings: Settings,
) -> ConfidenceMap | None:
    """What ``ask --confidence`` takes, fitted on all the pairs; None where they are too few."""
    if found.selection is None:
        return None
    right = sum(record.exact for record in records)
    calibration = fit_selected(
        found.selection,
        outcomes(records),
        outcomes(off_corpus, right=0.0),
        settings=settings,
        fitted_on=f"{', '.join(found.sources)} ({len(records)} questions, {right:.0f} right)",
        target=target,
    )
    return replace(calibration, models=rag.models_digest)


def _with_adaptive_k(found: Evaluation, rag: Pipeline, pairs: Sequence[Pair]) -> Evaluation:
    """The evaluation with the k of every question, or with a notice that says why there is none."""
    try:
        return replace(found, adaptive_k=adaptive_k(rag, pairs))
    except SettingError as error:  # its remedy is for a question: the rest of the report needs none
        return _noticed(found, f"no table of adaptive k, which needs {error.expected}: found {error.found}")


def _with_confidence_in_use(
    found: Evaluation, records: Sequence[Record], off_corpus: Sequence[Record], rag: Pipeline, settings: Settings
) -> Evaluation:
    """The evaluation with what it says of the confidence that ``rag`` has already."""
    if rag.calibration is None:
        return found
    applied = apply_calibration(
        rag.calibration, replace(settings, abstain_below=None, guaranteed_only=False), rag.models_digest
    )
    if applied is None or applied.mismatch:
        other = applied and applied.mismatch
        return _noticed(found, f"the confidence in use is not judged: it was calibrated with other {other}")
    if len(records) < ENOUGH_TO_JUDGE:
        needed = f"it takes {ENOUGH_TO_JUDGE} pairs or more, and there are {len(records)}"
        return _noticed(found, f"the confidence in use is not judged: {needed}")
    judged = judge(applied, outcomes(records), outcomes(off_corpus, right=0.0))
    if judged is None:
        stale = "answers.jsonl has answers of an earlier version: evaluate into a new folder"
        return _noticed(found, f"the confidence in use is not judged: {stale}")
    return replace(found, in_use=judged)


def _noticed(found: Evaluation, notice: str) -> Evaluation:
    return replace(found, notices=(*found.notices, notice))


def _write_confidence(found: Evaluation, path: Path) -> None:
    """Write the calibration; where the report has none, that of an earlier run is deleted."""
    if found.calibration is not None:
        return write_calibration(found.calibration, path)
    with suppress(OSError):
        path.unlink()
