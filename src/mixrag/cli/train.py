"""mixrag train: its options, and what is shown while it runs."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
from mixrag.cli.app import Json, app
from mixrag.cli.options import AskingOptions, StoreOptions, takes
from mixrag.cli.show import plain
from mixrag.errors import SettingError

if TYPE_CHECKING:
    from mixrag.config.training_settings import TrainingSettings

WHAT, HOW, LENGTH, COST = "What is trained", "How", "How long", "Cost"


@dataclass(frozen=True)
class TrainingOptions:
    """The options that become ``TrainingSettings``; the names are the same."""

    parts: Annotated[
        str,
        typer.Option(
            help="Comma-separated: generator, question-encoder (the index stays valid), encoder (both sides, "
            "the index is rebuilt), temperature, null. temperature,null alone is a calibration.",
            rich_help_panel=WHAT,
        ),
    ] = "generator,question-encoder,temperature"
    method: Annotated[
        Literal["lora", "full"],
        typer.Option(help="The generator's weights: a low-rank adapter, or all.", rich_help_panel=WHAT),
    ] = "lora"
    rank: Annotated[int, typer.Option(help="Rank of a new adapter.", rich_help_panel=WHAT)] = 16
    objective: Annotated[
        Literal["marginal", "em", "distill"],
        typer.Option(
            help="marginal: -log p(answer | question); em: the same gradient by expectation-maximisation; "
            "distill: the retriever follows what the language model found useful (PDist; REPLUG-LSR with "
            "--reverse).",
            rich_help_panel=HOW,
        ),
    ] = "marginal"
    e_step_every: Annotated[
        int,
        typer.Option(
            help="em: epochs between two E-steps of a pair; 3 takes about half the time of 1.",
            rich_help_panel=COST,
        ),
    ] = 1
    prior_power: Annotated[
        float, typer.Option(help="distill: a in r ∝ prior^a · likelihood^(1/τ).", rich_help_panel=HOW)
    ] = 0.0
    likelihood_temperature: Annotated[float, typer.Option(help="distill: τ.", rich_help_panel=HOW)] = 1.0
    reverse: Annotated[
        bool,
        typer.Option("--reverse", help="distill: KL(prior ‖ target) and not the other way.", rich_help_panel=HOW),
    ] = False
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Of the generator. Default: 5e-4 for lora, 4e-5 for full.", rich_help_panel=HOW),
    ] = None
    encoder_rate: Annotated[float, typer.Option(help="Learning rate of encoders.", rich_help_panel=HOW)] = 2e-5
    scalar_rate: Annotated[
        float, typer.Option(help="Learning rate of log temperature and null score.", rich_help_panel=HOW)
    ] = 2e-2
    warmup: Annotated[float, typer.Option(help="Share of steps with rising rates.", rich_help_panel=HOW)] = 0.06
    clip: Annotated[float, typer.Option(help="Largest gradient norm of a part.", rich_help_panel=HOW)] = 1.0
    weight_decay: Annotated[float, typer.Option(help="AdamW's.", rich_help_panel=HOW)] = 0.0
    refresh_every: Annotated[
        int, typer.Option(help="encoder: steps between rebuilds of the index.", rich_help_panel=HOW)
    ] = 50
    epochs: Annotated[float, typer.Option(help="Visits of every pair.", rich_help_panel=LENGTH)] = 3.0
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps; overrides --epochs.", rich_help_panel=LENGTH)
    ] = None
    evaluate_every: Annotated[
        int | None,
        typer.Option(help="Steps between looks at the dev pairs. Default: 4 an epoch.", rich_help_panel=LENGTH),
    ] = None
    patience: Annotated[
        int, typer.Option(help="Looks without improvement before an early stop.", rich_help_panel=LENGTH)
    ] = 4
    keep: Annotated[
        Literal["best", "last"],
        typer.Option(
            help="Weights of the best look at the dev pairs, or of the last step (no early stop).",
            rich_help_panel=LENGTH,
        ),
    ] = "best"
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.", rich_help_panel=LENGTH)] = 25
    batch: Annotated[int, typer.Option(help="Questions in one step.", rich_help_panel=COST)] = 8
    rows: Annotated[
        int, typer.Option(help="Branches in one backward pass: memory, not results.", rich_help_panel=COST)
    ] = 4
    skip: Annotated[
        float,
        typer.Option(
            help="Share of responsibility whose branches need not go backward; 0 = exact.", rich_help_panel=COST
        ),
    ] = 0.01
    max_answer_tokens: Annotated[
        int, typer.Option(help="Longer gold answers are left out.", rich_help_panel=COST)
    ] = 64
    max_answers: Annotated[
        int,
        typer.Option(help="Gold answers of a question in one step.", rich_help_panel=COST),
    ] = 3
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Recompute activations: less memory.", rich_help_panel=COST)
    ] = False
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile the model's layers first: faster steps.", rich_help_panel=COST),
    ] = False

    def settings(self, dtype: str, seed: int) -> TrainingSettings:
        """The settings that these options mean, with ``--dtype`` and ``--seed``.

        Raises:
            SettingError: a value outside its range.
        """
        from mixrag.config.training_settings import TrainingSettings

        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "parts"}
        parts = tuple(part.strip() for part in self.parts.split(",") if part.strip())
        if dtype in ("float16", "int8"):
            raise SettingError("--dtype float32 or bfloat16 for training", dtype, "choose one of them")
        dtype = "float32" if dtype == "auto" else dtype  # weights that change are not rounded unless asked for
        return TrainingSettings(**chosen, parts=parts, dtype=dtype, seed=seed)  # type: ignore[arg-type]


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


@app.command()
@takes(StoreOptions, AskingOptions, TrainingOptions)
def train(
    stores: StoreOptions,
    asking: AskingOptions,
    training: TrainingOptions,
    pairs: Annotated[
        list[Path],
        typer.Argument(
            help='Question-answer pairs, JSONL: {"question", "answers", "doc"} a line.', show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what is learnt; --model opens it.")],
    dev: Annotated[
        list[Path] | None,
        typer.Option(help="Held-out pairs, for early stopping and scores. Default: a tenth of the pairs."),
    ] = None,
    evaluate: Annotated[
        int, typer.Option(help="Held-out questions that are answered before and after; 0 = none.")
    ] = 200,
    baselines: Annotated[
        str,
        typer.Option(help="Comma-separated, trained alike: closed-book, passages, concatenation, frozen."),
    ] = "",
    json: Json = False,
) -> None:
    """Learn from question-answer pairs alone: the retriever, the language model, or both.

    Nobody says which passage answers which question: the marginal likelihood finds out. The same command goes on
    where a killed run stopped. What is learnt is opened with --model FOLDER.
    """
    from mixrag.training.command import TrainingRequest, teach

    request = TrainingRequest(
        pairs=tuple(pairs),
        dev=tuple(dev or ()),
        out=out,
        settings=training.settings(asking.dtype, asking.seed),
        evaluate=evaluate,
        baselines=tuple(name.strip() for name in baselines.split(",") if name.strip()),
        command=shlex.join(["mixrag", *sys.argv[1:]]),
    )
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun or accelerate started
    with stores.open(asking=asking) as rag, listening(quiet=json or not first) as listener:
        lesson = teach(rag, request, listener)
    if first:
        show.lesson(lesson, as_json=json)
