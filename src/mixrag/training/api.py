"""Training from end to end: read pairs, train, train the baselines, score all of them, write the model card.

``mixrag train`` and ``RAG.train`` both call ``run_training``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mixrag.answers.pipeline import Pipeline
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import SettingError
from mixrag.evaluation import Summary
from mixrag.pairs.pairs import Pair, PairSource, are_given, pairs_from, sample, split_pairs
from mixrag.training.baselines import BASELINES, baseline_of, check_baselines, named_baselines
from mixrag.training.curves import draw_curves
from mixrag.training.metrics import read_metrics
from mixrag.training.report import card, check_scorable, score_result, score_start, write_confidence
from mixrag.training.run import RunResult, check_named_models, train
from mixrag.training.run_spec import RunSpec
from mixrag.training.span_models import check_reader_baselines, reader_start
from mixrag.utils.extras import require_extra
from mixrag.utils.progress import Progress, guarded, labelled

DEV_SHARE = 0.1
"""Share of the pairs held out where no dev pairs are given."""
DEV_SCORED = 64
"""Dev pairs that are scored while it trains; all of them would take too long."""
_logger = logging.getLogger("mixrag.training")


@dataclass(frozen=True)
class TrainingRequest:
    """What to train on, where to, and what to compare it with."""

    pairs: PairSource
    out: Path
    """Folder for the trained bundle."""
    dev: PairSource | None = None
    """Held-out pairs; None: a tenth of ``pairs``."""
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    evaluate: int = 200
    """At most so many of the held-out questions are answered before and after training; 0: none."""
    baselines: tuple[str, ...] = ()
    """Other systems that are trained in the same way, among ``BASELINES``."""
    command: str = ""
    """What was typed, for the model card."""


@dataclass(frozen=True)
class TrainingReport:
    """What a training run left, and what it scores."""

    folder: Path
    """The trained bundle: ``RAG.open(store, model=folder)`` answers with it."""
    result: RunResult
    scores: Mapping[str, Summary]
    """By system, as the table names it; empty where nothing was evaluated."""


def run_training(rag: Pipeline, request: TrainingRequest, progress: Progress | None = None) -> TrainingReport:
    """Train and score; ``rag`` itself stays as it is. The same call continues where a killed one stopped.

    Progress has the stages "training" (values: what the step measured), "dev pairs" (values: nll and best, in nats
    per answer), "learning passages", and "answering" (detail: the system that is scored).

    Raises:
        SettingError: a setting outside its range, parts that the models do not have, or a store in shards.
        PairsError: pairs that cannot be read, or are too few.
        CheckpointError: the folder belongs to another run.
        ModelError: a model that was given as an object.
        TrainingError: a loss that is not finite, or a full disk.
    """
    # What is wrong should fail before hours of training, not after.
    require_extra("train", "training")
    rag.check_one_store()
    named_baselines(request.baselines)
    if request.evaluate < 0:
        raise SettingError("--evaluate >= 0", str(request.evaluate), "choose a value in this range")
    check_named_models(rag)
    parts = ", ".join(request.settings.parts)
    _logger.info(f"training {parts} by {request.settings.objective}: reading the pairs")
    pairs, dev, sources = _pairs(request)
    check_baselines(request.baselines, pairs, request.settings.batch)
    if request.baselines and reader_start(rag.models) is not None:
        check_reader_baselines(request.baselines)
    # What is asked of a passage of its own is learnt, not asked of the documents.
    scored = sample([pair for pair in dev if pair.passage is None], request.evaluate, request.settings.seed)
    check_scorable(rag, scored)
    while_training = tuple(sample(dev, DEV_SCORED, request.settings.seed))
    # Training changes weights in place: it loads the models of the same store again.
    own = Pipeline(rag.store, models=rag.models, index=rag.index_kind, settings=rag.settings)
    spec = RunSpec(own, pairs, while_training, request.settings, request.out)
    report = guarded(progress)
    result = _train(spec, report, "training")
    scored = scored if result.main else []
    scores: dict[str, Summary] = {}
    if scored:
        scores["before training"] = score_start(spec, scored, labelled(report, "before training"))
    for name in request.baselines:
        baseline, shown = baseline_of(spec, name), BASELINES[name].shown
        _logger.info(f"baseline: {shown}")
        trained = _train(baseline, report, f"training {name}")
        if scored:
            scores[shown] = score_result(baseline, scored, labelled(report, shown))
        if trained.main:
            found = {shown: scores[shown]} if shown in scores else {}
            card(baseline, sources, len(dev), found, request.command)
    if scored:
        scores["trained"] = score_result(spec, scored, labelled(report, "trained"))
        _logger.info(write_confidence(spec))
    if result.main:
        card(spec, sources, len(dev), scores, request.command)
    return TrainingReport(request.out, result, scores)


def _train(spec: RunSpec, progress: Progress, stage: str) -> RunResult:
    result = train(spec, progress, stage)
    if result.state is not None and result.main:
        title = f"{spec.folder.name}: {len(spec.pairs)} pairs"
        draw_curves(read_metrics(spec.folder / "metrics.jsonl"), spec.folder / "curves.png", title)
    return result


def _pairs(request: TrainingRequest) -> tuple[tuple[Pair, ...], Sequence[Pair], Sequence[str]]:
    """Training pairs, dev pairs, and what the former are called."""
    own = request.settings.objective == "composite"
    read = pairs_from(request.pairs, passages=own)
    held_out = pairs_from(request.dev, passages=own) if are_given(request.dev) else None
    for notice in (*read.notices, *(held_out.notices if held_out else ())):
        _logger.info(notice)
    if held_out is not None:
        return read.pairs, held_out.pairs, read.sources
    train_pairs, dev = split_pairs(read.pairs, DEV_SHARE, request.settings.seed)
    _logger.info(f"{len(dev)} of {len(read.pairs)} pairs held out as dev pairs (--dev names others)")
    return tuple(train_pairs), dev, read.sources
