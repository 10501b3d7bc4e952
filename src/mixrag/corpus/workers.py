"""Where files are read and vectors computed: in this process, or by workers of a cluster."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Protocol

from mixrag.corpus.embedder import Embed, Embedder, LocalEmbedder
from mixrag.corpus.reading import ChangedFile, Read, Reading


class Workers(Protocol):
    """What an indexing run leaves to others; it writes the store itself."""

    def read(self, files: Iterable[ChangedFile], reading: Reading) -> Generator[Read]:
        """Each file with its passages, or with the reason why it has none, in the given order; to be closed."""
        ...

    def embedder(self, embed: Embed) -> Embedder:
        """What computes the vectors; ``embed`` is the encoder in this process."""
        ...


class _Here:
    """This process."""

    def read(self, files: Iterable[ChangedFile], reading: Reading) -> Generator[Read]:
        return reading.files(files)

    def embedder(self, embed: Embed) -> Embedder:
        return LocalEmbedder(embed)


HERE: Workers = _Here()
