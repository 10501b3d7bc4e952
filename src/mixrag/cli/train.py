"""mixrag train: its options, and what is shown while it runs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mixrag.cli import show
from mixrag.cli.app import ENVIRONMENT, Json, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, takes
from mixrag.cli.progress import reporting
from mixrag.config.command_settings import TrainingReportSettings
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import SettingError


@app.command(cls=Command, epilog=ENVIRONMENT)
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

    No labels say which passage answers which question: the marginal likelihood needs none. The same command
    continues where a killed run stopped. What is learnt is opened with --model FOLDER.
    """
    from mixrag.training.api import TrainingRequest, run_training

    report = options.made(TrainingReportSettings)
    request = TrainingRequest(
        pairs=pairs,
        dev=report.dev,
        out=out,
        settings=_training_settings(options),
        evaluate=report.evaluate,
        baselines=report.baselines,
        command=shlex.join(["mixrag", *sys.argv[1:]]),
    )
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun or accelerate started
    with options.open() as rag, reporting(quiet=json or not first) as progress:
        found = run_training(rag, request, progress)
    if first:
        show.training_report(found, as_json=json)


def _training_settings(options: Options) -> TrainingSettings:
    given = options.of(TrainingSettings)
    dtype = given.pop("dtype", "auto")
    if dtype in ("float16", "int8"):
        raise SettingError("--dtype float32 or bfloat16 for training", dtype, "choose one of them")
    # Weights that change are not rounded unless asked for.
    return TrainingSettings(**given, dtype="float32" if dtype == "auto" else dtype)
