"""Exact search: every inner product is computed. The reference for every other index."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixrag.retrieval.index.protocol import Hits
from mixrag.utils.arrays import Rows, Vectors


@dataclass(frozen=True)
class ExactIndex:
    """Row ids (M,) and vectors (M, D), unchanged."""

    rows: Rows
    vectors: Vectors

    @property
    def description(self) -> str:
        """See ``CompleteIndex.description``."""
        return f"exact search over {len(self)} passages"

    def __len__(self) -> int:
        """M."""
        return len(self.rows)

    def search(self, question: Vectors, k: int, allowed: Rows | None = None) -> Hits:
        """See ``Index.search``; equal inner products are ordered by row id."""
        rows, scores = self._scores(question, allowed)
        return best_of(rows, scores, k)

    def products(self, question: Vectors, allowed: Rows | None = None) -> Hits:
        """See ``CompleteIndex.products``; always computed, in the order of rows."""
        return Hits(*self._scores(question, allowed))

    def vectors_of(self, rows: Rows) -> Vectors:
        """See ``CompleteIndex.vectors_of``."""
        order = self._order
        return self.vectors[order[np.searchsorted(self.rows, rows, sorter=order)]]

    def log_normaliser_bounds(
        self, question: Vectors, temperature: float, known: Hits | None = None
    ) -> tuple[float, float]:
        """See ``CompleteIndex.log_normaliser_bounds``; both are the value. -inf without passages."""
        logits = self.products(question).inner_products.astype(np.float64) / temperature
        value = float(np.logaddexp.reduce(logits, initial=-np.inf))
        return value, value

    @cached_property
    def _order(self) -> Rows:
        """(M,) places of the rows in ascending order."""
        return np.argsort(self.rows, kind="stable")

    def _scores(self, question: Vectors, allowed: Rows | None) -> tuple[Rows, Vectors]:
        if allowed is None:
            return self.rows, self.vectors @ question
        chosen = np.isin(self.rows, allowed)
        return self.rows[chosen], self.vectors[chosen] @ question


def best_of(rows: Rows, scores: Vectors, k: int) -> Hits:
    """The k largest of the scores (N,), equal ones ordered by row id."""
    candidates = np.arange(len(rows))
    if k < len(rows):
        # All that tie with the k-th are candidates until the order by row id decides.
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= threshold)
    order = np.lexsort((rows[candidates], -scores[candidates]))
    best = candidates[order][:k]
    return Hits(rows[best], scores[best])
