"""mixrag train: its options, and what is shown while it runs."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mixrag.cli import show
from mixrag.cli.app import ENVIRONMENT, Json, app
from mixrag.cli.options import Options, takes
from mixrag.cli.show import plain
from mixrag.config.command_settings import TrainingReportSettings
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import SettingError


class Lines:
    """The listener that writes plain lines to standard error, at most one every few seconds."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._last, self._total = seconds, 0.0, 0
        self._begun = self._first = 0.0

    def started(self, step: int, total: int) -> None:
        self._total, self._first, self._begun = total, float(step), time.monotonic()

    def stepped(self, step: int, metrics: Mapping[str, float]) -> None:
        now = time.monotonic()
        if now - self._last < self._seconds and step < self._total:
            return
        self._last = now
        left = (now - self._begun) / max(1.0, step - self._first) * (self._total - step)
        shown = [f"step {step}/{self._total}", f"loss {metrics['loss']:.3f}"]
        if "effective_posterior" in metrics:
            shown.append(f"effective passages {metrics['effective_posterior']:.2f}")
        if metrics["rows_backward"]:
            # Neither is part of the other: pairs whose responsibilities are held are not scored.
            shown.append(f"branches: {metrics['rows']:.0f} scored, {metrics['rows_backward']:.0f} backward")
        self.noticed(f"{', '.join(shown)}, about {left / 60:.0f} min left")

    def looked(self, step: int, nll: float, best: float) -> None:
        self.noticed(f"step {step}: dev -log p(gold answer) {nll:.3f} nats per answer (best {best:.3f})")

    def noticed(self, text: str) -> None:
        sys.stderr.write(plain(text) + "\n")
        sys.stderr.flush()


class Bar(Lines):
    """The listener for a terminal: a bar, and lines above it."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._task = progress.add_task("training", total=None, loss="")

    def started(self, step: int, total: int) -> None:
        self._progress.update(self._task, total=total, completed=step)

    def stepped(self, step: int, metrics: Mapping[str, float]) -> None:
        self._progress.update(self._task, completed=step, loss=f"loss {metrics['loss']:.3f}")

    def noticed(self, text: str) -> None:
        self._progress.console.print(Text(plain(text)))


class Silent(Lines):
    """The listener that says nothing."""

    def noticed(self, text: str) -> None: ...


@contextmanager
def listening(*, quiet: bool) -> Iterator[Lines]:
    """The listener for a training run; it writes to standard error, and nothing at all when quiet."""
    if quiet:
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield Bar(progress)


@app.command(epilog=ENVIRONMENT)
@takes("train")
def train(
    options: Options,
    pairs: Annotated[
        list[Path],
        typer.Argument(
            help='Question-answer pairs, JSONL: {"question", "answers", "doc"} a line.', show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what is learnt; --model opens it.")],
    json: Json = False,
) -> None:
    """Learn from question-answer pairs alone: the retriever, the language model, or both.

    Nobody says which passage answers which question: the marginal likelihood finds out. The same command goes on
    where a killed run stopped. What is learnt is opened with --model FOLDER.
    """
    from mixrag.training.command import TrainingRequest, teach

    report = options.made(TrainingReportSettings)
    request = TrainingRequest(
        pairs=tuple(pairs),
        dev=report.dev,
        out=out,
        settings=_training_settings(options),
        evaluate=report.evaluate,
        baselines=report.baselines,
        command=shlex.join(["mixrag", *sys.argv[1:]]),
    )
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun or accelerate started
    with options.open() as rag, listening(quiet=json or not first) as listener:
        lesson = teach(rag, request, listener)
    if first:
        show.lesson(lesson, as_json=json)


def _training_settings(options: Options) -> TrainingSettings:
    given = options.of(TrainingSettings)
    dtype = given.pop("dtype", "auto")
    if dtype in ("float16", "int8"):
        raise SettingError("--dtype float32 or bfloat16 for training", dtype, "choose one of them")
    # Weights that change are not rounded unless asked for.
    return TrainingSettings(**given, dtype="float32" if dtype == "auto" else dtype)
