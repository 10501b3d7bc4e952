"""What ``mixrag train`` does: read pairs, train, train the baselines alike, score, write the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixrag.answers.pipeline import Pipeline
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import SettingError
from mixrag.evaluation import Summary
from mixrag.pairs.pairs import Pair, read_pairs, sample, split_pairs
from mixrag.training.baselines import BASELINES, baseline_of, named_baselines
from mixrag.training.curves import draw_curves
from mixrag.training.loop import Listener
from mixrag.training.metrics import read_metrics
from mixrag.training.report import Told, card, check_scorable, score_result, score_start
from mixrag.training.run import Result, train
from mixrag.training.run_spec import RunSpec

DEV_SHARE = 0.1
"""Share of the pairs held out where no dev pairs are given."""
DEV_LOOKED_AT = 64
"""Dev pairs that are scored at every look; all of them would cost more than they tell."""


@dataclass(frozen=True)
class TrainingRequest:
    """What the command line asks for."""

    pairs: tuple[Path, ...]
    dev: tuple[Path, ...]
    out: Path
    settings: TrainingSettings
    evaluate: int
    baselines: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class TrainingReport:
    """What came of it."""

    folder: Path
    result: Result
    scores: Mapping[str, Summary]
    """By system, as the table names it; empty where nothing was evaluated."""


def teach(rag: Pipeline, request: TrainingRequest, listener: Listener) -> TrainingReport:
    """Train and score; see ``train`` for the errors raised."""
    # What is wrong should fail before hours of training, not after.
    named_baselines(request.baselines)
    if request.evaluate < 0:
        raise SettingError("--evaluate >= 0", str(request.evaluate), "choose a value in this range")
    pairs, dev = _pairs(request, listener)
    asked = sample(dev, request.evaluate, request.settings.seed)
    check_scorable(rag, asked)
    looked_at = tuple(sample(dev, DEV_LOOKED_AT, request.settings.seed))
    trainee = RunSpec(rag, pairs, looked_at, request.settings, request.out)
    result = _trained(trainee, listener)
    asked = asked if result.main else []
    told = _telling(listener)
    scores: dict[str, Summary] = {}
    sources = [path.name for path in request.pairs]
    if asked:
        scores["before training"] = score_start(trainee, asked, told)
    for name in request.baselines:
        baseline = baseline_of(trainee, name)
        listener.noticed(f"baseline: {BASELINES[name].shown}")
        trained = _trained(baseline, listener)
        shown = BASELINES[name].shown
        if asked:
            scores[shown] = score_result(baseline, trained.trained, asked, told)
        if trained.main:
            own = {shown: scores[shown]} if shown in scores else {}
            card(baseline, sources, len(dev), own, request.command)
    if asked:
        scores["trained"] = score_result(trainee, result.trained, asked, told)
    if result.main:
        card(trainee, sources, len(dev), scores, request.command)
    return TrainingReport(request.out, result, scores)


def _trained(trainee: RunSpec, listener: Listener) -> Result:
    result = train(trainee, listener)
    if result.progress is not None and result.main:
        title = f"{trainee.folder.name}: {len(trainee.pairs)} pairs"
        draw_curves(read_metrics(trainee.folder / "metrics.jsonl"), trainee.folder / "curves.png", title)
    return result


def _pairs(request: TrainingRequest, listener: Listener) -> tuple[tuple[Pair, ...], Sequence[Pair]]:
    """Training and dev pairs."""
    read = read_pairs(request.pairs)
    notices, dev = list(read.notices), None
    if request.dev:
        held_out = read_pairs(request.dev)
        notices += held_out.notices
        dev = held_out.pairs
    for notice in notices:
        listener.noticed(notice)
    if dev is not None:
        return read.pairs, dev
    train_pairs, split = split_pairs(read.pairs, DEV_SHARE, request.settings.seed)
    listener.noticed(f"{len(split)} of {len(read.pairs)} pairs held out as dev pairs (--dev names others)")
    return tuple(train_pairs), split


def _telling(listener: Listener) -> Told:
    def told(system: str, done: int, total: int) -> None:
        if done % 25 == 0 or done == total:
            listener.noticed(f"{system}: {done} of {total} questions answered")

    return told
