"""Exact search: every inner product is computed. The reference for every other index."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixrag.retrieval.index.protocol import Hits
from mixrag.utils.arrays import Floats, Rows, Vectors

_BLOCK = 128
"""Vectors that are converted at a time: they stay in the processor's cache."""


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
        if allowed is None:
            return best_of(self.rows, self.vectors @ question, k)
        chosen = self._places(allowed)
        return best_of(self.rows[chosen], self.vectors[chosen] @ question, k)

    def products(self, question: Vectors, allowed: Rows | None = None) -> Hits:
        """See ``CompleteIndex.products``; always computed, in the order of rows."""
        if allowed is None:
            return Hits(self.rows, exact_products(self.vectors, question))
        chosen = self._places(allowed)
        return Hits(self.rows[chosen], exact_products(self.vectors, question, chosen))

    def vectors_of(self, rows: Rows) -> Vectors:
        """See ``CompleteIndex.vectors_of``."""
        order = self._order
        return self.vectors[order[np.searchsorted(self.rows, rows, sorter=order)]]

    def log_normaliser_bounds(
        self, question: Vectors, temperature: float, known: Hits | None = None
    ) -> tuple[float, float]:
        """See ``CompleteIndex.log_normaliser_bounds``; both are the value. -inf without passages."""
        logits = exact_products(self.vectors, question) / temperature
        value = float(np.logaddexp.reduce(logits, initial=-np.inf))
        return value, value

    @cached_property
    def _order(self) -> Rows:
        """(M,) places of the rows in ascending order."""
        return np.argsort(self.rows, kind="stable")

    def _places(self, allowed: Rows) -> Rows:
        """(N,) places of the allowed rows that there are."""
        return np.flatnonzero(np.isin(self.rows, allowed))


def exact_products(vectors: Vectors, question: Vectors, places: Rows | None = None) -> Floats:
    """(M,) inner products of vectors (M, D) with a question (D,), or (N,) of those at some places, in float64.

    In float32 the last digits depend on how, and with which other vectors, they are computed; these are the same
    in every index, and in every part of a store.
    """
    asked, count = question.astype(np.float64), len(vectors) if places is None else len(places)
    products = np.empty(count, np.float64)
    for start in range(0, count, _BLOCK):
        some = slice(start, start + _BLOCK) if places is None else places[start : start + _BLOCK]
        products[start : start + _BLOCK] = vectors[some].astype(np.float64) @ asked
    return products


def best_of(rows: Rows, scores: Vectors | Floats, k: int) -> Hits:
    """The k largest of the scores (N,), equal ones ordered by row id."""
    candidates = np.arange(len(rows))
    if k < len(rows):
        # All that tie with the k-th are candidates until the order by row id decides.
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= threshold)
    order = np.lexsort((rows[candidates], -scores[candidates]))
    best = candidates[order][:k]
    return Hits(rows[best], scores[best])
