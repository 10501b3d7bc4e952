"""Which texts have a vector: read once while a writer has the lock, and added to as it writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt


class KnownHashes:
    """The hashes of the texts whose vectors are in a table that nobody else changes.

    Args:
        table: its name.
        stored: a column of pyarrow with those that are there, of 32 bytes each.
    """

    def __init__(self, table: str, stored: Any) -> None:
        self.table = table
        chunks = [_hashes(chunk) for chunk in stored.chunks]
        self._sorted = np.sort(np.concatenate([np.empty(0, "S32"), *chunks]))
        self._added: set[bytes] = set()

    def add(self, hashes: Iterable[bytes]) -> None:
        """These have a vector now as well."""
        self._added.update(hashes)

    def missing(self, hashes: Collection[bytes]) -> set[bytes]:
        """Those without a vector."""
        asked = [each for each in hashes if each not in self._added]
        if not len(self._sorted):
            return set(asked)
        wanted = np.array(asked, "S32")
        at = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return {asked[place] for place in np.flatnonzero(self._sorted[at] != wanted).tolist()}


def _hashes(chunk: Any) -> npt.NDArray[np.bytes_]:
    return np.frombuffer(chunk.buffers()[1], "S32", len(chunk), chunk.offset * 32)
