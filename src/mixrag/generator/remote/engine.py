"""What the interfaces of servers have in common, once the probe has found what they can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mixrag.generator.protocol import Written
from mixrag.probability import Listed


class Lister(Protocol):
    """A server that continues rows of token ids, and lists the most probable ones at each place."""

    def write(self, rows: Sequence[tuple[int, ...]], max_tokens: int, count: int) -> list[Written]:
        """Continue each row with its most probable tokens; ``count`` tokens are listed at each place.

        Raises:
            ServerError: the server refuses, or returns something else.
        """
        ...


class Engine(Lister, Protocol):
    """A server that continues and scores rows of token ids."""

    def read(
        self, rows: Sequence[tuple[int, ...]], lengths: Sequence[int], count: int
    ) -> list[tuple[Listed, ...]]:
        """Of each row, the distributions at its last tokens, as many as its length says, which list those tokens.

        Raises:
            ServerError: as ``write``.
        """
        ...

    def tokenize(self, text: str) -> tuple[int, ...] | None:
        """The ids of a text without special tokens; None where the server does not say."""
        ...

    def other(self) -> Engine | None:
        """The same server, asked to score in another way; None where there is none left."""
        ...
