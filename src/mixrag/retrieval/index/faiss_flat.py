"""FAISS' flat index: exact too, and the reference for measurements of speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixrag.retrieval.index.protocol import Hits
from mixrag.utils.arrays import Rows, Vectors

FLAT_LIMIT = 50_000
"""Up to so many passages a full scan takes a few milliseconds, and approximation buys nothing."""


@dataclass(frozen=True)
class FaissIndex:
    """A flat FAISS index whose ids are row ids of the store."""

    index: Any

    @property
    def description(self) -> str:
        """See ``CompleteIndex.description``."""
        return f"FAISS Flat, exact, chosen for {len(self)} passages"

    def __len__(self) -> int:
        """M."""
        return int(self.index.ntotal)

    def search(self, question: Vectors, k: int, allowed: Rows | None = None) -> Hits:
        """See ``Index.search``."""
        import faiss

        k = min(k, len(self) if allowed is None else len(allowed))
        if k == 0:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        chosen: Any = faiss.SearchParameters()
        if allowed is not None:
            chosen.sel = selector = faiss.IDSelectorBatch(allowed)  # noqa: F841 - FAISS does not own it
        scores, rows = self.index.search(question[None], k, params=chosen)
        found = rows[0] >= 0  # FAISS fills up with -1 what it did not find
        return Hits(rows[0][found], scores[0][found])

    def products(self, question: Vectors, allowed: Rows | None = None) -> None:
        """Not computed: FAISS returns the best products only."""
        return None

    def vectors_of(self, rows: Rows) -> Vectors:
        """See ``CompleteIndex.vectors_of``."""
        if len(rows) == 0:
            return np.empty((0, self.index.d), np.float32)
        found: Vectors = self.index.reconstruct_batch(rows)
        return found

    def log_normaliser_bounds(self, question: Vectors, temperature: float, known: Hits | None = None) -> None:
        """Not computed either."""
        return None


def build_faiss(rows: Rows, vectors: Vectors) -> FaissIndex:
    """A flat index over ids (M,) and vectors (M, D)."""
    import faiss

    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, rows)
    return FaissIndex(index)
