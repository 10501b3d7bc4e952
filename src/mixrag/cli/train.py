"""mixrag train: its options, and what is shown while it runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from mixrag.cli import show_reports
from mixrag.cli.app import ENVIRONMENT, Json, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, shown_command, takes
from mixrag.cli.progress import reporting
from mixrag.config.command_settings import StoreConfig, TrainingReportSettings
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import SettingError

if TYPE_CHECKING:
    from mixrag import RAG

_logger = logging.getLogger("mixrag.training")


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("train")
def train(
    options: Options,
    pairs: Annotated[
        list[Path],
        typer.Argument(
            help='Question-answer pairs, JSONL: {"question", "answers", "doc"} a line; with --objective composite '
            'also {"question", "answers", "passage"}.',
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what is learnt; --model opens it.")],
    json: Json = False,
) -> None:
    """Learn from question-answer pairs alone: the retriever, the language model or extractive reader, or both.

    No labels say which passage answers which question: the marginal likelihood needs none. The same command
    continues where a killed run stopped. What is learnt is opened with --model FOLDER.
    """
    report = options.made(TrainingReportSettings)
    settings = _training_settings(options)
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun or accelerate started
    with reporting(quiet=json or not first) as progress:
        _logger.info("opening store and models")  # at once: the libraries that follow take seconds
        from mixrag.training.api import TrainingRequest, run_training

        request = TrainingRequest(
            pairs=pairs,
            dev=report.dev,
            out=out,
            settings=settings,
            evaluate=report.evaluate,
            baselines=report.baselines,
            command=shown_command(sys.argv),
        )
        with _opened(options, pairs) as rag:
            found = run_training(rag, request, progress)
    if first:
        show_reports.training_report(found, as_json=json)


@contextmanager
def _opened(options: Options, pairs: Sequence[Path]) -> Iterator[RAG]:
    """The store; where there is none, and all pairs have passages of their own, an empty one."""
    from mixrag.corpus.store.opening import has_store
    from mixrag.retrieval.shards.naming import is_sharded

    store = options.made(StoreConfig).store
    if is_sharded(store) or has_store(store) or not _need_no_store(options, pairs):
        with options.open() as rag:
            yield rag
        return
    with TemporaryDirectory() as folder:
        empty = Options({**options.given, "store": Path(folder)})
        with empty.open(create=True) as rag:
            yield rag


def _need_no_store(options: Options, pairs: Sequence[Path]) -> bool:
    settings = _training_settings(options)
    if settings.objective != "composite" or settings.trains_retriever:
        return False
    from mixrag.pairs.pairs import read_pairs

    every = [*pairs, *(options.made(TrainingReportSettings).dev or ())]
    return all(pair.passage is not None for pair in read_pairs(every, passages=True).pairs)


def _training_settings(options: Options) -> TrainingSettings:
    given = options.of(TrainingSettings)
    dtype = given.pop("dtype", "auto")
    if dtype in ("float16", "int8"):
        raise SettingError("--dtype float32 or bfloat16 for training", dtype, "choose one of them")
    # Weights that change are not rounded unless asked for.
    return TrainingSettings(**given, dtype="float32" if dtype == "auto" else dtype)
