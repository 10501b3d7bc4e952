"""Where the questions of a server's clients wait, with the packaged readers or with a model that costs nothing.

    mixrag index demo/corpus --store STORE
    python benchmarks/serving_waits.py STORE demo/pairs.jsonl [--clients 1 8] [--seconds 30] [--engine openvino]
    python benchmarks/serving_waits.py STORE demo/pairs.jsonl --pass-ms 50 [--clients 1 8 32]

In this process, by ``Questions`` as the server has it, without HTTP. The mean seconds of a question's parts:

- begin: wait for a thread, encode, search, make prompts
- wait: until the running batch has room, and has ended the pass under way
- join: the readers read question and passages, with those that join at the same time
- write: from then to the last token, what others join and write meanwhile included
- finish: probabilities, certificate, confidence, the answer

``answers a pass``: how many answers an average pass of the language model serves. ``--pass-ms`` takes a table in
the place of the readers, whose passes take so long however many rows they have, as where the weights are all that
has to be moved: what the scheduling alone gives.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from mixrag import RAG
from mixrag.corpus import Store
from mixrag.generator import TableGenerator
from mixrag.generator.table import TableBranches
from mixrag.inference.continuous import RunningBatch
from mixrag.pairs.pairs import read_pairs
from mixrag.server import batches
from mixrag.server.questions import Limits, Questions

PARTS = ("begin", "wait", "join", "write", "finish")
HEAD = "| clients | answers/s | core s | cores | begin | wait | join | write | finish | answers a pass |"
WORDS = (*"abcdefgh", "<end>")


@dataclass
class Seen:
    """The questions of one number of clients."""

    parts: list[tuple[float, ...]] = field(default_factory=list)
    """Seconds of each, as ``PARTS``."""
    passes: int = 0
    answers: int = 0
    """Of all passes, added up."""

    def row(self, clients: int, seconds: float, core: float) -> str:
        """Of the Markdown table."""
        means = " | ".join(f"{statistics.fmean(each):.3f}" for each in zip(*self.parts, strict=True))
        done, width = len(self.parts), self.answers / max(1, self.passes)
        rate = f"{done / seconds:.2f} | {core / done:.3f} | {core / seconds:.2f}"
        return f"| {clients} | {rate} | {means} | {width:.1f} |"


@contextmanager
def watching(seen: Seen) -> Iterator[None]:
    """Note on a question's object when it is added to the batch, is joined, has joined and has left."""

    def note(*names: str) -> None:
        for asked, name in zip(names[::2], names[1::2], strict=True):
            setattr(asked, name, time.perf_counter())

    def added(inner: Callable[..., Any]) -> Any:
        def add(own: Any, asked: Any) -> None:
            note(asked, "added")
            inner(own, asked)

        return add

    def joined(inner: Callable[..., Any]) -> Any:
        def join(own: Any, several: Sequence[Any]) -> None:
            note(*(each for asked in several for each in (asked, "joining")))
            inner(own, several)
            note(*(each for asked in several for each in (asked, "joined")))

        return join

    def left(inner: Callable[..., Any]) -> Any:
        def leave(own: Any, found: Any) -> None:
            note(found.writing.asked, "ended")
            inner(own, found)

        return leave

    def stepped(inner: Callable[..., Any]) -> Any:
        def step(own: Any) -> Any:
            seen.passes, seen.answers = seen.passes + 1, seen.answers + len(own)
            return inner(own)

        return step

    with ExitStack() as patched:
        for owner, name, watch in (
            (batches.Batches, "add", added),
            (batches._Batch, "_join", joined),
            (batches._Batch, "_left", left),
            (RunningBatch, "step", stepped),
        ):
            patched.enter_context(mock.patch.object(owner, name, watch(getattr(owner, name))))
        yield


async def under_load(
    rag: RAG, questions: Sequence[str], clients: int, seconds: float, rows: int, changes: Any
) -> Seen:
    """So many clients, each with one question after the other."""
    asking, seen = Questions(Limits(threads=64, rows=rows)), Seen()
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        order = [*questions]
        random.Random(number).shuffle(order)
        place = 0
        while time.perf_counter() < end:
            came, place = time.perf_counter(), place + 1
            async with asking.ask(rag, order[place % len(order)], changes) as asked:
                await asked.answer()
            done, at = time.perf_counter(), vars(asked._decoder._asked)  # type: ignore[union-attr]
            places = [came, *(at.get(name, done) for name in ("added", "joining", "joined", "ended")), done]
            seen.parts.append(tuple(after - before for before, after in pairwise(places)))

    try:
        with watching(seen):
            await asyncio.gather(*(client(number) for number in range(clients)))
    finally:
        asking.close()
    return seen


class SlowBranches(TableBranches):
    """Rows whose passes take a fixed time."""

    def advance(self, rows: Tensor, tokens: Tensor) -> TableBranches:
        """See ``Branches.advance``."""
        generator: Any = self.generator
        time.sleep(generator.seconds)
        return super().advance(rows, tokens)


class SlowGenerator(TableGenerator):
    """A table whose passes take a fixed time; its answers are the eight words."""

    seconds: float

    def start(self, prompts: Any) -> SlowBranches:
        """See ``Generator.start``."""
        time.sleep(self.seconds)
        return SlowBranches(self, tuple(prompts), ((),) * len(prompts))


def slow(seconds: float) -> SlowGenerator:
    """The model whose passes take so long."""
    table = torch.full((len(WORDS), len(WORDS)), 0.02).fill_diagonal_(0.84)
    found = SlowGenerator(WORDS, lambda _, answer: table[min(len(answer), len(WORDS) - 1)])
    object.__setattr__(found, "seconds", seconds)
    return found


def opened(options: argparse.Namespace) -> RAG:
    """The store, with the readers or the model in their place."""
    if options.pass_ms is None:
        return RAG.open(options.store, **({"engine": options.engine} if options.engine else {}))
    return RAG(Store.open(options.store), generator=slow(options.pass_ms / 1000))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--engine")
    parser.add_argument("--decoder", default="beam")
    parser.add_argument("--rows", type=int, default=80, help="of one batch")
    parser.add_argument("--pass-ms", type=float)
    options = parser.parse_args()
    changes = {"kind": "span", "decoder": options.decoder, "max_tokens": 16}
    with opened(options) as rag:
        questions = [pair.question for pair in read_pairs([options.pairs]).pairs][: options.questions]
        for question in questions:
            rag.ask(question, **changes)  # reads the passages
        print(HEAD + "\n|" + " --- |" * 10, flush=True)
        for clients in options.clients:
            start, core = time.perf_counter(), time.process_time()
            work = under_load(rag, questions, clients, options.seconds, options.rows, changes)
            seen = asyncio.run(work)
            print(seen.row(clients, time.perf_counter() - start, time.process_time() - core), flush=True)


if __name__ == "__main__":
    main()
