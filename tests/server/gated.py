"""A language model that waits at a gate after its first token, so that a test decides when answers go on."""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor

from mixrag.generator import TableGenerator
from mixrag.generator.table import TableBranches


class Gate:
    """Opens and shuts; ``rows`` are the sizes of the passes that were made."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.reached = threading.Event()
        self.rows: list[int] = []

    def shut(self) -> None:
        """Let the next pass wait."""
        self.reached.clear()
        self.opened.clear()

    def passed(self, rows: int) -> None:
        """Called before each pass."""
        self.reached.set()
        self.opened.wait()
        self.rows.append(rows)


class GatedBranches(TableBranches):
    """Rows whose passes go through the gate of their generator."""

    def advance(self, rows: Tensor, tokens: Tensor) -> Any:
        """See ``Branches.advance``."""
        generator: Any = self.generator
        generator.gate.passed(len(rows))
        return super().advance(rows, tokens)


class GatedGenerator(TableGenerator):
    """``TableGenerator`` with a ``gate``."""

    gate: Gate

    def start(self, prompts: Any) -> GatedBranches:
        """See ``Generator.start``."""
        return GatedBranches(self, tuple(prompts), ((),) * len(prompts))


def gated(generator: TableGenerator, gate: Gate, fails_after: str = "") -> GatedGenerator:
    """The generator behind a gate.

    Args:
        generator: the model.
        gate: its gate.
        fails_after: a word; reading what follows it in an answer raises ValueError.
    """
    word = generator.words.index(fails_after) if fails_after else -1

    def next_token(passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
        if word in answer:
            raise ValueError(f"nothing follows {fails_after}")
        return generator.next_token(passage, answer)

    found = GatedGenerator(generator.words, next_token, generator.context_size)
    object.__setattr__(found, "gate", gate)
    return found
