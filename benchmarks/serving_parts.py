"""Where the time of questions that are answered together goes: what more clients can gain, part by part.

    mixrag index demo/corpus --store STORE
    mixrag precompute --store STORE
    python benchmarks/serving_parts.py STORE demo/pairs.jsonl [--together 1 2 4 8] [--questions 24]
        [--threads 1] [--engine openvino] [--decoder greedy] [--generator extractive]

So many questions at a time are answered by ``ask_many``, in one batch from beginning to end: the most that a
server can do with as many clients, without HTTP, queue, or answers that wait for each other. ``core s`` is the
time of all cores for a question, which other work on the machine hardly changes with ``--threads 1``; ``cores``,
how many were busy. Its parts:

- find: encode the question, search, make prompts
- read: the language model reads the question after passages that it has read before
- span: the extractive reader reads question and passages; each question is new to it
- write: passes of the language model for the tokens; of which ``copy`` is the choice of rows of its states
- rest: choosing tokens, the extractive reader's share of each token, probabilities, the answer
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from mixrag import RAG
from mixrag.answers.pipeline import Pipeline
from mixrag.generator.causal import CausalGenerator
from mixrag.generator.causal_branches import CausalBranches
from mixrag.generator.extractive import ExtractiveGenerator
from mixrag.generator.kv_cache import GrowingLayer
from mixrag.pairs.pairs import read_pairs

PARTS: dict[str, tuple[tuple[type, str], ...]] = {
    "find": ((Pipeline, "_retrieve"), (Pipeline, "_condition")),
    "read": ((CausalGenerator, "_start"),),
    "span": ((ExtractiveGenerator, "read"),),
    "write": ((CausalBranches, "advance"), (CausalBranches, "score")),
    "copy": ((GrowingLayer, "reorder_cache"),),
}
"""Methods whose time is noted; copying is a part of writing."""


@dataclass
class Spent:
    """Seconds by the clock, and of all cores."""

    wall: dict[str, float] = field(default_factory=lambda: dict.fromkeys([*PARTS, "all"], 0.0))
    core: dict[str, float] = field(default_factory=lambda: dict.fromkeys([*PARTS, "all"], 0.0))
    passes: int = 0
    rows: int = 0

    @contextmanager
    def noting(self, part: str) -> Any:
        """Add the time of a block to a part."""
        wall, core = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall[part] += time.perf_counter() - wall
            self.core[part] += time.process_time() - core

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is added to a part."""

        def call(*given: Any, **named: Any) -> Any:
            if part == "write" and len(given) > 2:
                self.passes, self.rows = self.passes + 1, self.rows + len(given[1])
            with self.noting(part):
                return function(*given, **named)

        return call

    def row(self, together: int, questions: int) -> str:
        """Of the Markdown table."""
        core = {part: seconds / questions for part, seconds in self.core.items()}
        rest = core["all"] - sum(core[part] for part in ("find", "read", "span", "write"))
        shown = [f"{core[part]:.3f}" for part in PARTS] + [f"{rest:.3f}", f"{core['all']:.3f}"]
        cores = self.core["all"] / self.wall["all"]
        width = self.rows / max(1, self.passes)
        rate = self.rows / max(1e-9, self.core["write"])
        return (
            f"| {together} | {questions / self.wall['all']:.2f} | {cores:.2f} | {' | '.join(shown)} "
            f"| {width:.0f} | {rate:.0f} |"
        )


HEAD = (
    "| together | answers/s | cores | find | read | span | write | copy | rest | core s "
    "| rows of a pass | rows/core s |\n|" + " --- |" * 12
)


def measured(rag: RAG, questions: list[str], together: int, changes: dict[str, Any]) -> Spent:
    """Answer all questions, so many at a time."""
    spent = Spent()
    with ExitStack() as patched:
        for part, methods in PARTS.items():
            for owner, name in methods:
                patched.enter_context(mock.patch.object(owner, name, spent.timed(part, getattr(owner, name))))
        for first in range(0, len(questions), together):
            forget(rag)
            with spent.noting("all"):
                rag.ask_many(questions[first : first + together], **changes)
    return spent


def forget(rag: RAG) -> None:
    """Let the extractive reader read what it has read."""
    known = getattr(getattr(rag.generator, "extractive", rag.generator), "_known", None)
    if known is not None:
        known.clear()


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as cores")
    parser.add_argument("--engine")
    parser.add_argument("--decoder")
    parser.add_argument("--generator")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    given = {"generator": options.generator, "engine": options.engine}
    changes = {"kind": "span", **({"decoder": options.decoder} if options.decoder else {})}
    with RAG.open(options.store, **{name: value for name, value in given.items() if value}) as rag:
        questions = [pair.question for pair in read_pairs([options.pairs]).pairs][: options.questions]
        for question in questions:
            rag.ask(question, **changes)  # reads the passages
        print(HEAD, flush=True)
        for _ in range(options.rounds):
            for together in options.together:
                print(measured(rag, questions, together, changes).row(together, len(questions)), flush=True)


if __name__ == "__main__":
    main()
