"""Which passages may be components, with all that their prior depends on: inner products and BM25 scores.

Where the index computes all inner products, all passages are candidates. Elsewhere BM25 is known of all passages
and the inner product of the n best of the dense search alone; no other passage has a larger one than the last of
them, d_n, but for what the index rounds in float32, which is added to d_n. So another passage can be among the k
best only if (1-λ) d_n / T + λ BM25 / T' is not below the k-th best score so far. Those for which it is not are
looked up as well, and the k best of all these are the k best of all (threshold algorithm with random access:
Fagin, Lotem and Naor 2003). A dense search that misses passages can still miss a component; the scores of those
that are found do not depend on it, nor on n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mixrag.probability import passage_scores
from mixrag.retrieval.index import CompleteIndex, exact_products
from mixrag.retrieval.lexical import Scored
from mixrag.utils.arrays import Rows, Vectors

LEAST = 128
"""Passages that the dense search is asked for at first, or twice k where that is more; and the best by BM25."""
GROWTH = 4
"""What n is multiplied by where too many passages are above the bound, which is lower with a larger n."""
PATIENCE = 40
"""Too many are more than this times n; to search for GROWTH times as many takes about so many inner products."""
MOST = 4096
"""Passages that the dense search is asked for at most, or twice k where that is more."""
MOST_ABOVE = 16_384
"""Passages above the bound that are looked up at most."""
_MARGIN = 1e-9
"""Relative; more than rounding in float64 may lower a bound."""


@dataclass(frozen=True)
class Query:
    """A question, encoded, with what the settings ask of the search."""

    vector: Vectors
    """(D,)"""
    k: int
    count: int
    """M, or the number of passages that the filter lets through."""
    allowed: Rows | None
    temperature: float
    bm25: Scored | None
    """Of all passages that the filter lets through; None where λ = 0 or none of them shares a word."""
    share: float
    """λ in the settings."""
    lexical_temperature: float

    @property
    def lexical(self) -> float:
        """λ; 0 where no passage that the filter lets through shares a word with the question."""
        return 0.0 if self.bm25 is None else self.share

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

    def joined(self, others: Candidates) -> Candidates:
        """With others, which come behind."""
        bm25 = None if self.bm25 is None or others.bm25 is None else torch.cat([self.bm25, others.bm25])
        products = torch.cat([self.inner_products, others.inner_products])
        return replace(self, rows=np.concatenate([self.rows, others.rows]), inner_products=products, bm25=bm25)

    def refined(self, places: Rows, vectors: Vectors) -> Candidates:
        """With the inner products at some places computed in float64, from their vectors (N, D)."""
        at = (torch.from_numpy(places),)
        products = torch.from_numpy(exact_products(vectors, self.query.vector))
        return replace(self, inner_products=self.inner_products.index_put(at, products))


def find_candidates(index: CompleteIndex, query: Query, *, exact: bool) -> Candidates | None:
    """The candidates for a question; with ``exact``, None where the index does not compute all inner products."""
    found = index.products(query.vector, query.allowed)
    if found is not None:
        bm25 = None if query.bm25 is None else torch.from_numpy(query.bm25.of(found.rows))
        return Candidates(query, found.rows, torch.from_numpy(found.inner_products).double(), bm25, True)
    if exact:
        return None
    if query.bm25 is None:
        return _scored(index, query, index.search(query.vector, query.k, query.allowed).rows)
    return _of_both(index, query, query.bm25)


def _of_both(index: CompleteIndex, query: Query, bm25: Scored) -> Candidates:
    n, most = max(LEAST, 2 * query.k), max(MOST, 2 * query.k)
    matched = bm25.best(n)
    while True:
        dense = index.search(query.vector, n, query.allowed)
        if len(dense.rows) == 0:
            return _scored(index, query, dense.rows)
        rows = np.union1d(dense.rows, matched)
        vectors = index.vectors_of(rows)
        some = _of_vectors(query, rows, vectors)
        largest_product = float(dense.inner_products[-1]) + _rounding(query.vector, vectors)
        least = _least_bm25(query, some.kth(query.k), largest_product)
        above = bm25.places_from(least)
        if len(above) <= PATIENCE * n or n >= most or len(dense.rows) < n:
            break
        n = min(GROWTH * n, most)
    rows, largest = bm25.highest(above, MOST_ABOVE) if len(above) > MOST_ABOVE else (bm25.rows[above], least)
    others = _scored(index, query, np.setdiff1d(rows, some.rows, assume_unique=True))
    return replace(some.joined(others), largest_bm25=max(0.0, largest))


def _least_bm25(query: Query, score: float, product: float) -> float:
    """The least BM25 with which a passage has this score, if its inner product is at most ``product``."""
    dense = (1.0 - query.lexical) * (product / query.temperature)
    least = (score - dense) * query.lexical_temperature / query.lexical
    return least - _MARGIN * max(abs(score), abs(dense), 1.0) * query.lexical_temperature / query.lexical


def _rounding(question: Vectors, vectors: Vectors) -> float:
    """Bound on the error of an inner product of the question (D,) in float32, in whatever order it is added up.

    |fl(d·q) - d·q| ≤ D u Σ_i |d_i q_i| ≤ D u |d| |q| to first order, where 2 u is float32's epsilon (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Twice that, with the longest d of
    ``vectors`` (N, D), covers passages twice as long as those.
    """
    longest = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max(initial=0.0))
    bound = len(question) * np.finfo(np.float32).eps * longest * np.linalg.norm(question.astype(np.float64))
    return float(bound)


def _scored(index: CompleteIndex, query: Query, rows: Rows) -> Candidates:
    return _of_vectors(query, rows, index.vectors_of(rows))


def _of_vectors(query: Query, rows: Rows, vectors: Vectors) -> Candidates:
    products = torch.from_numpy(exact_products(vectors, query.vector))
    bm25 = None if query.bm25 is None else torch.from_numpy(query.bm25.of(rows))
    return Candidates(query, rows, products, bm25)
