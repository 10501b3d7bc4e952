"""p(z | x): from a question to passages and their log prior.

Dense scores are inner products over a temperature. The lexical option mixes that distribution with a softmax
over BM25 scores: p(z|x) = (1-λ) dense(z) + λ lexical(z), again a distribution over passages. Dense is
normalised over all M passages where the search is exact, else over the candidates; lexical over all passages
that share a word with the question, and where none does, dense stands alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixrag.config.settings import Settings
from mixrag.corpus import Passage, Store
from mixrag.errors import SettingError, StoreEmptyError
from mixrag.probability import fewest_kept, log_sum, mass_outside
from mixrag.retrieval.encoders import Encoder
from mixrag.retrieval.index import (
    FLAT_LIMIT,
    ExactIndex,
    Hits,
    Index,
    VectorSource,
    build_faiss,
    cells_for,
    describe_persistent,
    open_persistent,
)

Rows = npt.NDArray[np.int64]
IndexKind = Literal["auto", "exact", "faiss"]


@dataclass(frozen=True)
class Retrieval:
    """What the retriever says of a question: K passages, best first, and their prior."""

    passages: tuple[Passage, ...]
    log_prior: Tensor
    """(K,) float64 log p(z | x)."""
    inner_products: Tensor
    """(K,) d(z)·q(x), before the temperature."""
    log_null: float | None
    """Log prior of the null component, where the settings ask for one."""
    outside: float | None
    """Prior mass, under the full normaliser, of all other passages; None where the search is not exact, or where
    uniform weights took the place of the retriever's."""
    temperature: float
    """T."""
    outside_bounds: tuple[float, float] | None = None
    """What ``outside`` is not below and not above, up to rounding, where it is unknown because the search is
    approximate (probability/unseen.py); None where it is known, or nothing is known of it."""


class Retriever(Protocol):
    """Anything that turns a question into passages and their prior."""

    def retrieve(self, question: str, settings: Settings) -> Retrieval:
        """Passages and prior for one question; of the settings, those that concern p(z | x)."""
        ...


@dataclass(frozen=True)
class StoreRetriever:
    """A bi-encoder and an index over a store's passages."""

    store: Store
    encoder: Encoder
    index: Index

    def retrieve(
        self, question: str, settings: Settings, vector: npt.NDArray[np.float32] | None = None
    ) -> Retrieval:
        """See ``Retriever.retrieve``; ``vector`` (D,) is the question's, where it has been encoded already.

        Raises:
            StoreEmptyError: no passage, or none that the filter lets through.
            SettingError: the full normaliser, k = "all" or adaptive k asked of an approximate index.
        """
        query = self._query(question, settings, vector)
        ranked = _ranked(query, settings.lexical, settings.lexical_temperature)
        if settings.max_outside is not None:
            share = math.exp(-np.logaddexp(0.0, _log_null(ranked, settings)))  # that null leaves to all passages
            allowed = settings.max_outside / share if share > settings.max_outside else 1.0
            ranked = ranked.first(fewest_kept(ranked.log_mass, allowed))
        return _retrieval(self.store, query, ranked, settings)

    def _query(self, question: str, settings: Settings, vector: npt.NDArray[np.float32] | None) -> _Query:
        allowed = self.store.rows_where(settings.where) if settings.where else None
        count = len(self.index) if allowed is None else len(allowed)
        if count == 0:
            found = f"none with {dict(settings.where)}" if settings.where else "none"
            remedy = (
                "loosen the filter" if settings.where else "index documents first: mixrag index PATH --store DIR"
            )
            raise StoreEmptyError("passages in the store", found, remedy)
        vector = self.encoder.encode_questions([question])[0] if vector is None else vector
        temperature = settings.temperature or self.encoder.temperature
        log_full = self.index.log_normaliser(vector, temperature, allowed)
        exact = settings.normaliser == "full" or settings.k == "all" or settings.max_outside is not None
        if log_full is None and exact:
            needed = "exact search for the full normaliser, k = 'all' or max_outside"
            raise SettingError(needed, f"an index without it ({self.index.description})", "choose index 'exact'")
        k = count if settings.k == "all" else min(settings.k, count)
        return _Query(self, question, vector, k, count, allowed, temperature, log_full)


@dataclass(frozen=True)
class _Query:
    """One question under way."""

    retriever: StoreRetriever
    question: str
    vector: npt.NDArray[np.float32]
    k: int
    count: int
    """M, or the number of passages that the filter lets through."""
    allowed: Rows | None
    temperature: float
    log_full: float | None
    """log Z over all ``count`` passages."""

    def search(self, k: int, allowed: Rows | None) -> Hits:
        return self.retriever.index.search(self.vector, k, allowed)

    @cached_property
    def lexical(self) -> tuple[Rows, npt.NDArray[np.float64]]:
        """Rows and BM25 scores of all passages that share a word with the question, best first."""
        return self.retriever.store.lexical(self.question, None, self.allowed)


@dataclass(frozen=True)
class _Ranked:
    """The k passages kept, and their unnormalised prior.

    Masses are such that all passages together have mass one (exact search), and the null component with score
    b has e^b / Z.
    """

    rows: Rows
    log_mass: Tensor
    inner_products: Tensor
    log_z: float
    """log of Z in that ratio."""

    def first(self, n: int) -> _Ranked:
        """The n best of them."""
        return replace(
            self, rows=self.rows[:n], log_mass=self.log_mass[:n], inner_products=self.inner_products[:n]
        )


def _ranked(query: _Query, lexical: float, lexical_temperature: float) -> _Ranked:
    hits = query.search(query.k, query.allowed)
    if lexical == 0.0 or len(query.lexical[0]) == 0:
        logits, log_z = _dense(query, hits)
        return _Ranked(hits.rows, logits - log_z, torch.from_numpy(hits.inner_products), log_z)
    hits = _candidates(query)
    logits, log_z = _dense(query, hits)
    by_words = _lexical(query, hits.rows, lexical_temperature)
    mixed = torch.stack([logits - log_z + _log(1 - lexical), by_words + _log(lexical)])
    log_mass = log_sum(mixed, 0)
    best = log_mass.argsort(descending=True, stable=True)[: query.k]
    return _Ranked(hits.rows[best.numpy()], log_mass[best], torch.from_numpy(hits.inner_products)[best], log_z)


def _candidates(query: _Query) -> Hits:
    """What may be among the k best of the sum of both distributions: everything, where the search is exact."""
    if query.log_full is not None:
        return query.search(query.count, query.allowed)
    # They may be missing from the k best of each distribution; from twice as many they seldom are.
    pool = np.union1d(query.search(2 * query.k, query.allowed).rows, query.lexical[0][: 2 * query.k])
    return query.search(len(pool), pool)


def _dense(query: _Query, hits: Hits) -> tuple[Tensor, float]:
    logits = torch.from_numpy(hits.inner_products).double() / query.temperature
    return logits, float(logits.logsumexp(0)) if query.log_full is None else query.log_full


def _lexical(query: _Query, rows: Rows, temperature: float) -> Tensor:
    """log of the softmax of BM25 / temperature over all matches, read off at ``rows``; -inf where no match."""
    matched, scores = query.lexical
    logs = (torch.from_numpy(scores) / temperature).log_softmax(0).tolist()
    known = dict(zip(matched.tolist(), logs, strict=True))
    return torch.tensor([known.get(row, -math.inf) for row in rows.tolist()], dtype=torch.float64)


def _retrieval(store: Store, query: _Query, ranked: _Ranked, settings: Settings) -> Retrieval:
    log_null = _log_null(ranked, settings)
    log_kept = float(ranked.log_mass.logsumexp(0))
    log_total = 0.0 if settings.normaliser == "full" else log_kept
    log_total = float(np.logaddexp(log_total, log_null))
    outside = None
    if len(ranked.rows) == query.count:
        outside = 0.0
    elif query.log_full is not None:
        outside = max(0.0, -math.expm1(log_kept)) * math.exp(-np.logaddexp(0.0, log_null))
    log_prior = ranked.log_mass - log_total
    if settings.weights == "uniform":
        log_prior = equal_weights(log_prior)
        # Passages left out are no part of this prior: nothing is known of a mixture over all.
        outside = 0.0 if outside == 0.0 else None
    bounded = outside is None and settings.weights == "retriever"
    return Retrieval(
        passages=tuple(store.passages(ranked.rows)),
        log_prior=log_prior,
        inner_products=ranked.inner_products.double(),
        log_null=None if settings.null is None else log_null - log_total,
        outside=outside,
        temperature=query.temperature,
        outside_bounds=_outside_bounds(query, ranked, settings) if bounded else None,
    )


def _outside_bounds(query: _Query, ranked: _Ranked, settings: Settings) -> tuple[float, float] | None:
    """The mass outside falls with what the kept passages have, and so rises with Z."""
    bounds = query.retriever.index.log_normaliser_bounds(query.vector, query.temperature)
    if bounds is None:
        return None
    low, high = (_outside_at(query, ranked, settings, log_z) for log_z in bounds)
    return low, high


def _outside_at(query: _Query, ranked: _Ranked, settings: Settings, log_z: float) -> float:
    """Mass outside the passages kept, were log Z over all passages this."""
    log_mass = ranked.inner_products.double() / query.temperature - log_z
    if settings.lexical > 0.0 and len(query.lexical[0]):
        by_words = _lexical(query, ranked.rows, settings.lexical_temperature)
        log_mass = log_sum(
            torch.stack([log_mass + _log(1 - settings.lexical), by_words + _log(settings.lexical)]), 0
        )
    null = -math.inf if settings.null is None else settings.null
    return float(mass_outside(log_mass.logsumexp(0) + log_z, log_z, null))


def equal_weights(log_prior: Tensor) -> Tensor:
    """(K,) the same total mass, shared equally."""
    return (log_prior.logsumexp(0) - math.log(len(log_prior))).expand_as(log_prior).clone()


def _log_null(ranked: _Ranked, settings: Settings) -> float:
    """log e^b / Z: the null component's mass where all passages together have one; -inf where there is none."""
    return -math.inf if settings.null is None else settings.null - ranked.log_z


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def open_index(store: Store, kind: IndexKind) -> Index:
    """An index over the store's present passages.

    "auto" searches exactly as long as a full scan is quick, and takes cells with refinement beyond, which are kept
    in files beside the store (``index/kept.py``). "faiss" takes FAISS' flat index where "auto" searches exactly.
    """
    passages = store.counts().passages
    if _is_exact(passages, kind):
        return ExactIndex(*store.vectors())
    if passages <= FLAT_LIMIT:
        return build_faiss(*store.vectors())
    return open_persistent(
        store.directory, VectorSource(store.state, _fingerprint(store), store.marks, store.vectors)
    )


def describe_index(passages: int, kind: IndexKind, store: Store | None = None) -> str:
    """What ``open_index`` will choose for so many passages, and why; with a store, what it has kept."""
    if _is_exact(passages, kind):
        reason = "as asked" if kind == "exact" else f"up to {FLAT_LIMIT} passages"
        return f"exact search over {passages} passages ({reason})"
    if passages <= FLAT_LIMIT:
        return f"FAISS Flat, exact search over {passages} passages (as asked)"
    kept = store and describe_persistent(store.directory, store.state)
    size = f"by the size of the corpus ({passages} passages)"
    return kept or f"FAISS IVF{cells_for(passages)}, four-bit codes refined by exact products, {size}"


def _fingerprint(store: Store) -> str:
    return "" if store.encoder is None else store.encoder.fingerprint


def _is_exact(passages: int, kind: IndexKind) -> bool:
    return kind == "exact" or (kind == "auto" and passages <= FLAT_LIMIT)
