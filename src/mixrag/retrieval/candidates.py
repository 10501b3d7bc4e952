"""Which passages may be components, with all that their prior depends on: inner products and BM25 scores.

Where the index computes all inner products, all passages are candidates. Elsewhere they are the n best of the
dense search and the n best of the lexical search, each with both scores. No other passage has a larger inner
product than the last of the one, d_n, or a larger BM25 than the last of the other, b_n; so the k best candidates
are the k best of all once (1-λ) d_n / T + λ b_n / T' is not above the k-th of them (threshold algorithm: Fagin,
Lotem and Naor 2003). Until then n grows. A dense search that misses passages can still miss a component; the
scores of those that are found do not depend on it, nor on n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mixrag.probability import passage_scores
from mixrag.retrieval.index import CompleteIndex, Hits
from mixrag.utils.arrays import Floats, Rows, Vectors

LEAST = 32
"""Passages that each search is asked for at first, or twice k where that is more."""
GROWTH = 4
"""What n is multiplied by where the k best are not certain."""
MOST = 4096
"""Passages that each search is asked for at most, or twice k where that is more."""


class LexicalSearch(Protocol):
    """BM25 of a store's passages; the frequencies of words are those of the whole store, whatever the filter."""

    def scores(self, question: str, allowed: Rows | None = None) -> tuple[Rows, Floats]:
        """Row ids, ascending, and scores of all passages, or of all ``allowed``; 0 where no word is shared."""
        ...

    def top(self, question: str, n: int, allowed: Rows | None = None) -> tuple[Rows, Floats]:
        """Row ids and scores of the n best passages that share a word with the question, best first."""
        ...

    def scores_of(self, question: str, rows: Rows) -> Floats:
        """Scores of these rows, in their order; 0 where no word is shared."""
        ...

    def tolerant(self) -> LexicalSearch:
        """The same search, where a word that no passage has stands for the nearest one."""
        ...


@dataclass(frozen=True)
class Query:
    """A question, encoded, with what the settings ask of the search."""

    question: str
    vector: Vectors
    """(D,)"""
    k: int
    count: int
    """M, or the number of passages that the filter lets through."""
    allowed: Rows | None
    temperature: float
    lexical: float
    """λ; 0 where no passage that the filter lets through shares a word with the question."""
    lexical_temperature: float

    def scores(self, inner_products: Tensor, bm25: Tensor | None) -> Tensor:
        """(C,) s_j."""
        return passage_scores(
            inner_products,
            self.temperature,
            bm25=bm25,
            lexical=self.lexical,
            lexical_temperature=self.lexical_temperature,
        )


@dataclass(frozen=True)
class Candidates:
    """C passages."""

    query: Query
    rows: Rows
    """(C,)"""
    inner_products: Tensor
    """(C,) float64."""
    bm25: Tensor | None
    """(C,) float64; None where λ = 0."""
    complete: bool = False
    """The index computed all inner products, and these are all passages that may be retrieved."""
    largest_bm25: float = 0.0
    """No other passage has a larger BM25."""

    @cached_property
    def scores(self) -> Tensor:
        """(C,) s_j."""
        return self.query.scores(self.inner_products, self.bm25)

    @cached_property
    def log_z(self) -> float | None:
        """log Z over all passages; None where they are not complete."""
        return float(self.scores.logsumexp(0)) if self.complete else None

    def best(self, k: int) -> Rows:
        """Places of the k largest scores, best first; equal ones by inner product, then by row."""
        scores, places = self.scores.numpy(), np.arange(len(self.rows))
        if k < len(scores):
            # All that tie with the k-th take part until the order decides.
            places = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
        order = np.lexsort((self.rows[places], -self.inner_products.numpy()[places], -scores[places]))
        chosen: Rows = places[order][:k]
        return chosen

    def kth(self, k: int) -> float:
        """The k-th largest score; -inf where there are fewer."""
        return float(self.scores.kthvalue(len(self.rows) - k + 1).values) if len(self.rows) >= k else -np.inf

    def at(self, places: Rows) -> Candidates:
        """Some of them, in this order."""
        chosen = torch.from_numpy(places)
        bm25 = None if self.bm25 is None else self.bm25[chosen]
        return replace(self, rows=self.rows[places], inner_products=self.inner_products[chosen], bm25=bm25)

    def refined(self, places: Rows, vectors: Vectors) -> Candidates:
        """With the inner products at some places computed in float64, from their vectors (N, D)."""
        at = (torch.from_numpy(places),)
        return replace(self, inner_products=self.inner_products.index_put(at, _products(vectors, self.query)))


def find_candidates(
    index: CompleteIndex, lexical: LexicalSearch | None, query: Query, *, exact: bool
) -> Candidates | None:
    """The candidates for a question; with ``exact``, None where the index does not compute all inner products.

    ``lexical`` is needed where λ > 0.
    """
    found = index.products(query.vector, query.allowed)
    if found is not None:
        return _all(found, lexical, query)
    if exact:
        return None
    if lexical is None or query.lexical == 0.0:
        rows = index.search(query.vector, query.k, query.allowed).rows
        return _scored(index, query, rows, None)
    n, most = max(LEAST, 2 * query.k), max(MOST, 2 * query.k)
    while True:
        some, bound = _best_of_both(index, lexical, query, n)
        if len(some.rows) in (0, query.count) or n >= most or some.kth(query.k) >= bound:
            return some
        n = min(GROWTH * n, most)


def _all(found: Hits, lexical: LexicalSearch | None, query: Query) -> Candidates:
    bm25 = None
    if lexical is not None and query.lexical > 0.0:
        rows, scores = lexical.scores(query.question, query.allowed)
        bm25 = torch.from_numpy(scores[np.searchsorted(rows, found.rows)])
    return Candidates(query, found.rows, torch.from_numpy(found.inner_products).double(), bm25, True)


def _best_of_both(index: CompleteIndex, lexical: LexicalSearch, query: Query, n: int) -> tuple[Candidates, float]:
    """The n best of each search, and a bound on the score of every other passage."""
    dense = index.search(query.vector, n, query.allowed)
    if len(dense.rows) == 0:
        return _scored(index, query, dense.rows, torch.empty(0, dtype=torch.float64)), np.inf
    matched, weights = lexical.top(query.question, n, query.allowed)
    rows = np.union1d(dense.rows, matched)
    bm25 = torch.from_numpy(lexical.scores_of(query.question, rows))
    last_weight = float(weights[-1]) if len(matched) == n else 0.0
    last = (torch.tensor([each], dtype=torch.float64) for each in (dense.inner_products[-1], last_weight))
    found = replace(_scored(index, query, rows, bm25), largest_bm25=last_weight)
    return found, float(query.scores(*last))


def _scored(index: CompleteIndex, query: Query, rows: Rows, bm25: Tensor | None) -> Candidates:
    products = _products(index.vectors_of(rows), query)
    return Candidates(query, rows, products, bm25)


def _products(vectors: Vectors, query: Query) -> Tensor:
    """(N,) inner products in float64: in float32 the last digits depend on how an index goes about it."""
    return torch.from_numpy(vectors.astype(np.float64) @ query.vector.astype(np.float64))
