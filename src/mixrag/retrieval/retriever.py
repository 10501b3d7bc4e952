"""p(z | x): from a question to passages and their log prior.

A retrieval is four steps: encode the question, search the index, compute the prior (``probability/prior.py`` has
the equations), read the passages. Dense scores are normalised over all M passages where the search is exact,
else over the candidates; lexical scores over all passages that share a word with the question. Where none does,
only the dense distribution remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from mixrag.config.settings import Settings
from mixrag.corpus import Passage, Store
from mixrag.errors import MixragError, PluginError, SettingError, StoreEmptyError
from mixrag.probability import (
    highest,
    log_lexical_distribution,
    log_masses,
    log_null_mass,
    mass_outside,
    normalised_prior,
    smallest_k,
)
from mixrag.retrieval.encoders import CompleteEncoder
from mixrag.retrieval.index import CompleteIndex
from mixrag.retrieval.lexical import open_lexical
from mixrag.utils.arrays import Floats, Rows, Vectors


@dataclass(frozen=True)
class Retrieval:
    """What a retriever returns for a question: K passages, best first, and their prior."""

    passages: tuple[Passage, ...]
    log_prior: Tensor
    """(K,) float64 log p(z | x)."""
    inner_products: Tensor
    """(K,) d(z)·q(x), or other scores, before the temperature."""
    log_null: float | None = None
    """Log prior of the null component; None where there is none."""
    outside: float | None = None
    """Prior mass, under the full normaliser, of all other passages; None where it is unknown: the search is not
    exact, or uniform weights took the place of the retriever's."""
    temperature: float = 1.0
    """T."""
    outside_bounds: tuple[float, float] | None = None
    """Lower and upper bound on ``outside``, up to rounding, where it is unknown because the search is approximate
    (probability/unseen.py); None where it is known, or has no bounds."""

    @classmethod
    def from_scores(
        cls,
        passages: Sequence[Passage],
        scores: Sequence[float] | Tensor | Floats,
        temperature: float = 1.0,
        *,
        null: float | None = None,
    ) -> Self:
        """The retrieval whose prior is the softmax of scores / T over these passages ("top-k" normaliser).

        Args:
            passages: K passages, in any order; they need not be in a store.
            scores: (K,) one score a passage, higher is better. For probabilities p give log p and T = 1.
            temperature: T > 0.
            null: score b of the null component on the scale of scores / T (``Settings.null``); None: none.

        Raises:
            PluginError: not one finite score for each passage, or a temperature that is not positive.
        """
        where = "Retrieval.from_scores"
        values = _vector(scores, len(passages), f"one finite score a passage for {where}")
        if not 0.0 < temperature < float("inf"):
            raise PluginError(f"a temperature > 0 for {where}", repr(temperature), "give the T of the scores")
        order = values.argsort(descending=True, stable=True)
        log_mass, log_z = log_masses(values[order], temperature)
        log_prior, log_null = normalised_prior(log_mass, log_null_mass(null, log_z))
        return cls(
            passages=tuple(passages[i] for i in order.tolist()),
            log_prior=log_prior,
            inner_products=values[order],
            log_null=None if log_null is None else float(log_null),
            temperature=temperature,
        )


class Retriever(Protocol):
    """Plug-in point: anything that turns a question into passages and their prior, such as a search engine."""

    def retrieve(self, question: str, settings: Settings) -> Retrieval:
        """Passages and prior for one question.

        Args:
            question: the question x.
            settings: p(z | x) depends on ``k``, ``null``, ``temperature``, ``normaliser``, ``weights``,
                ``max_outside``, ``lexical``, ``lexical_temperature`` and ``where``. A plug-in decides which of
                them it follows.
        """
        ...


@dataclass(frozen=True)
class StoreRetriever:
    """A bi-encoder and an index over a store's passages."""

    store: Store
    encoder: CompleteEncoder
    index: CompleteIndex

    def retrieve(self, question: str, settings: Settings, vector: Vectors | None = None) -> Retrieval:
        """See ``Retriever.retrieve``; ``vector`` (D,) is the question's, where it has been encoded already.

        Raises:
            StoreEmptyError: no passage, or none that the filter lets through.
            SettingError: the full normaliser, k = "all" or adaptive k asked of an approximate index.
        """
        query = self._encode(question, settings, vector)
        candidates = self._search(query)
        log_mass, log_z = candidates.log_masses(query, query.log_z)
        null = log_null_mass(settings.null, log_z)
        chosen = highest(log_mass, query.k)
        if settings.max_outside is not None:
            chosen = chosen[: smallest_k(log_mass[chosen], settings.max_outside, null)]
        components, log_mass = candidates.at(chosen), log_mass[chosen]
        full, uniform = settings.normaliser == "full", settings.weights == "uniform"
        log_prior, log_null = normalised_prior(log_mass, null, full=full, uniform=uniform)
        outside = _outside(query, log_mass, null)
        if uniform and outside != 0.0:
            # Passages left out are not part of this prior: nothing is known of a mixture over all.
            outside = None
        bounded = outside is None and not uniform
        return Retrieval(
            passages=tuple(self.store.passages(components.rows)),
            log_prior=log_prior,
            inner_products=components.inner_products.double(),
            log_null=None if log_null is None else float(log_null),
            outside=outside,
            temperature=query.temperature,
            outside_bounds=self._outside_bounds(query, components, settings.null) if bounded else None,
        )

    def _encode(self, question: str, settings: Settings, vector: Vectors | None) -> _Query:
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
        log_z = self.index.log_normaliser(vector, temperature, allowed)
        exact = settings.normaliser == "full" or settings.k == "all" or settings.max_outside is not None
        if log_z is None and exact:
            needed = "exact search for the full normaliser, k = 'all' or max_outside"
            raise SettingError(needed, f"an index without it ({self.index.description})", "choose index 'exact'")
        k = count if settings.k == "all" else min(settings.k, count)
        none: tuple[Rows, Floats] = np.empty(0, np.int64), np.empty(0, np.float64)
        matches = none if settings.lexical == 0.0 else open_lexical(self.store).top(question, count, allowed)
        lexical, lexical_temperature = settings.lexical, settings.lexical_temperature
        return _Query(vector, k, count, allowed, temperature, log_z, *matches, lexical, lexical_temperature)

    def _search(self, query: _Query) -> _Candidates:
        """All passages that may be among the k best."""
        if len(query.matched) == 0:
            hits = self.index.search(query.vector, query.k, query.allowed)
        elif query.log_z is not None:
            # Any passage may be among the k best of a sum of two distributions.
            hits = self.index.search(query.vector, query.count, query.allowed)
        else:
            # They may be missing from the k best of each distribution; from twice as many they seldom are.
            dense = self.index.search(query.vector, 2 * query.k, query.allowed).rows
            pool = np.union1d(dense, query.matched[: 2 * query.k])
            hits = self.index.search(query.vector, len(pool), pool)
        if len(hits.rows) == 0:
            raise StoreEmptyError("passages from the index", "none", "choose index 'exact'")
        return _Candidates(hits.rows, torch.from_numpy(hits.inner_products))

    def _outside_bounds(
        self, query: _Query, components: _Candidates, null: float | None
    ) -> tuple[float, float] | None:
        """The mass outside falls with the mass of the components, and so rises with Z."""
        bounds = self.index.log_normaliser_bounds(query.vector, query.temperature)
        if bounds is None:
            return None
        low, high = (
            float(mass_outside(log_mass.logsumexp(0), 0.0, log_null_mass(null, log_z)))
            for log_mass, log_z in (components.log_masses(query, bound) for bound in bounds)
        )
        return low, high


@dataclass(frozen=True)
class _Query:
    """A question, encoded, with what the settings ask of the search."""

    vector: Vectors
    """(D,)"""
    k: int
    count: int
    """M, or the number of passages that the filter lets through."""
    allowed: Rows | None
    temperature: float
    log_z: float | None
    """log Z over all ``count`` passages; None where the index does not compute it."""
    matched: Rows
    """(N,) rows of all passages that share a word with the question, best first; none where λ = 0."""
    bm25: Floats
    """(N,)"""
    lexical: float
    """λ"""
    lexical_temperature: float


@dataclass(frozen=True)
class _Candidates:
    """(C,) passages that a search found."""

    rows: Rows
    inner_products: Tensor

    def at(self, places: Tensor) -> _Candidates:
        """Some of them, in this order."""
        return _Candidates(self.rows[places.numpy()], self.inner_products[places])

    def log_masses(self, query: _Query, log_z: float | None) -> tuple[Tensor, Tensor]:
        """Their log masses (C,) with this log Z, and log Z; None: over the candidates."""
        return log_masses(
            self.inner_products,
            query.temperature,
            log_z=log_z,
            log_lexical=self._log_lexical(query) if len(query.matched) else None,
            lexical=query.lexical,
        )

    def _log_lexical(self, query: _Query) -> Tensor:
        order = np.argsort(self.rows)
        places = order[np.searchsorted(self.rows, query.matched, sorter=order).clip(max=len(order) - 1)]
        places = np.where(self.rows[places] == query.matched, places, -1)
        scores = torch.from_numpy(query.bm25)
        return log_lexical_distribution(
            scores, torch.from_numpy(places), len(self.rows), query.lexical_temperature
        )


def _outside(query: _Query, log_mass: Tensor, log_null: Tensor | None) -> float | None:
    if len(log_mass) == query.count:
        return 0.0
    return None if query.log_z is None else float(mass_outside(log_mass.logsumexp(0), 0.0, log_null))


def checked_retrieval(found: Any, retriever: Any) -> Retrieval:
    """What a plugged-in retriever returned, once it can be a prior.

    Raises:
        PluginError: not a ``Retrieval``; lengths that differ; a log prior that is NaN, positive, or sums to more
            than one with the null component; nothing with any mass.
        StoreEmptyError: neither a passage nor a null component.
    """
    name = type(retriever).__name__
    if not isinstance(found, Retrieval):
        raise PluginError(f"a Retrieval from {name}.retrieve", f"a {type(found).__name__}", _HOWTO)
    if not found.passages and found.log_null is None:
        raise StoreEmptyError(
            f"passages from {name}.retrieve", "none", "ask another question, or set a null score"
        )
    wrong = next((type(p).__name__ for p in found.passages if not isinstance(p, Passage)), None)
    if wrong is not None:
        raise PluginError(f"passages of the class Passage from {name}.retrieve", f"a {wrong}", _HOWTO)
    expected = f"a log prior (K,) for {len(found.passages)} passages, summing to at most one, from {name}.retrieve"
    log_prior = _vector(found.log_prior, len(found.passages), expected, least=-torch.inf)
    products = _vector(
        found.inner_products, len(found.passages), f"one finite inner product a passage from {name}.retrieve"
    )
    null = torch.tensor([-torch.inf if found.log_null is None else found.log_null], dtype=torch.float64)
    total = float(torch.cat([log_prior, null]).logsumexp(0).exp())
    if not 0.0 < total <= 1.0 + 1e-6:
        raise PluginError(expected, f"a total of {total:.6g}", "use Retrieval.from_scores, which normalises")
    return Retrieval(
        tuple(found.passages),
        log_prior,
        products,
        found.log_null,
        found.outside,
        found.temperature,
        found.outside_bounds,
    )


_HOWTO = "see the how-to on Retriever in the documentation"


def _vector(values: Any, length: int, expected: str, least: float | None = None) -> Tensor:
    """(length,) float64; ``least`` is a value besides the finite ones that may occur."""
    try:
        vector = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    except MixragError:
        raise
    except (TypeError, ValueError, RuntimeError):
        raise PluginError(expected, f"a {type(values).__name__} that is not a row of numbers", _HOWTO) from None
    if vector.shape != (length,):
        raise PluginError(expected, f"the shape {tuple(vector.shape)}", "return as many as there are passages")
    valid = vector.isfinite() if least is None else vector.isfinite() | (vector == least)
    if not bool(valid.all()):
        raise PluginError(expected, f"{float(vector[~valid][0])} among them", "return numbers only")
    return vector
