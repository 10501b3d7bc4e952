"""Who computes vectors: the encoder in this process, or workers elsewhere that have some batches ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from mixrag.utils.arrays import Vectors

Embed = Callable[[list[str]], Vectors]
"""Texts (B,) to vectors (B, D)."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What came of the texts of a batch."""

    vectors: Vectors
    """(B', D), of the texts that are not refused, in their order."""
    refused: tuple[int, ...] = ()
    """Positions of texts without a vector: the process that computes it died at each of them, again and again."""


class Embedder(Protocol):
    """Takes batches of texts, and has their vectors later."""

    @property
    def ahead(self) -> int:
        """How many batches should be under way; 0: each is computed when its vectors are asked for."""
        ...

    def submit(self, texts: list[str]) -> Callable[[], Embedded]:
        """Take a batch; the result waits for its vectors. Results are asked for in the order of submission."""
        ...


@dataclass(frozen=True, slots=True)
class LocalEmbedder:
    """The encoder in this process."""

    embed: Embed
    ahead: int = 0

    def submit(self, texts: list[str]) -> Callable[[], Embedded]:
        """See ``Embedder.submit``."""
        return partial(self._embedded, texts)

    def _embedded(self, texts: list[str]) -> Embedded:
        return Embedded(self.embed(texts))
