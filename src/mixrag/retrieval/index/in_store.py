"""Search in the store's own engine: it says where to look, the inner products are computed from the vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixrag.corpus import Store
from mixrag.retrieval.index.exact import best_of, exact_products
from mixrag.retrieval.index.faiss_flat import FLAT_LIMIT
from mixrag.retrieval.index.protocol import Hits
from mixrag.utils.arrays import Floats, Rows, Vectors


@dataclass(frozen=True)
class InStoreIndex:
    """Approximate: some of the k may be missed. It has nothing in memory, and sees the snapshot of its caller."""

    store: Store
    passages: int

    @property
    def description(self) -> str:
        """See ``CompleteIndex.description``."""
        return f"{self.store.own_search}, refined by exact products, over {self.passages} passages"

    def __len__(self) -> int:
        """M."""
        return self.passages

    def search(self, question: Vectors, k: int, allowed: Rows | None = None) -> Hits:
        """See ``Index.search``; of up to ``FLAT_LIMIT`` allowed passages all products are computed."""
        few = allowed is not None and len(allowed) <= FLAT_LIMIT
        rows = allowed if allowed is not None and few else self.store.nearest(question, k, allowed)
        return best_of(rows, self._products(rows, question), k)

    def products(self, question: Vectors, allowed: Rows | None = None) -> Hits | None:
        """With a filter that lets through up to ``FLAT_LIMIT`` passages; else None."""
        if allowed is None or len(allowed) > FLAT_LIMIT:
            return None
        return Hits(allowed, self._products(allowed, question))

    def vectors_of(self, rows: Rows) -> Vectors:
        """See ``CompleteIndex.vectors_of``."""
        return self.store.vectors_of(rows)

    def log_normaliser_bounds(
        self, question: Vectors, temperature: float, known: Hits | None = None
    ) -> tuple[float, float] | None:
        """See ``CompleteIndex.log_normaliser_bounds``; None: nothing is known of the passages not looked at."""
        return None

    def _products(self, rows: Rows, question: Vectors) -> Floats:
        return exact_products(self.store.vectors_of(rows), question) if len(rows) else np.empty(0, np.float64)
