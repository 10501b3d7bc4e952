"""p(z | x): from a question to passages and their log prior.

A retrieval is four steps: encode the question, find the candidates (``candidates.py``), compute the prior
(``probability/prior.py`` has the equations), read the passages. Whichever way passages were found, their scores
are the same, and so is their prior. A filter gives the prior that an index of the passages it lets through would
give; only the word frequencies in BM25 stay those of the whole store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from mixrag.config.settings import Settings
from mixrag.corpus import Passage, Store
from mixrag.errors import MixragError, PluginError, StoreEmptyError
from mixrag.probability import mass_outside, normalised_prior, passage_scores, smallest_k
from mixrag.retrieval.candidates import Candidates, Query
from mixrag.retrieval.encoders import CompleteEncoder
from mixrag.retrieval.index import CompleteIndex
from mixrag.retrieval.lexical import LexicalIndex, Scored, open_lexical
from mixrag.retrieval.search import log_z_bounds, search
from mixrag.retrieval.shards.protocol import Withheld
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
    (probability/unseen.py), or a shard gave nothing; None where it is known, or has no bounds."""
    notices: tuple[str, ...] = ()
    """What whoever reads these numbers must know, such as the name of a shard that did not answer."""
    withheld: tuple[Withheld | None, ...] = ()
    """(K,) for the passages whose owner gives likelihoods alone; empty where there is none."""
    missing: tuple[str, ...] = ()
    """Names of the shards that did not answer."""
    shift: float = 0.0
    """By how much the log-odds between two of these components may differ from those with all shards, where one is
    missing whose words are unknown; infinite where nothing bounds it."""

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
        log_prior, log_null = normalised_prior(passage_scores(values[order], temperature), null)
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
                ``max_outside``, ``lexical``, ``lexical_temperature``, ``typos`` and ``where``. A plug-in
                decides which of them it follows.
        """
        ...


@dataclass(frozen=True)
class StoreRetriever:
    """A bi-encoder, an index and a lexical index over a store's passages."""

    store: Store
    encoder: CompleteEncoder
    index: CompleteIndex
    lexical: Callable[[], LexicalIndex] | None = None
    """Called where λ > 0; None: opens the lexical index of the store."""

    def retrieve(self, question: str, settings: Settings, vector: Vectors | None = None) -> Retrieval:
        """See ``Retriever.retrieve``; ``vector`` (D,) is the question's, where it has been encoded already.

        Raises:
            StoreEmptyError: no passage, or none that the filter lets through.
            SettingError: the full normaliser, k = "all" or adaptive k asked of an approximate index.
        """
        query = self._query(question, settings, vector)
        exact = settings.normaliser == "full" or settings.k == "all" or settings.max_outside is not None
        found, components = search(self.index, query, exact=exact)
        log_z, null = found.log_z, settings.null
        if settings.max_outside is not None and log_z is not None:
            count = smallest_k(components.scores, settings.max_outside, log_z, null)
            components = components.at(np.arange(count))
        full, uniform = settings.normaliser == "full", settings.weights == "uniform"
        log_prior, log_null = normalised_prior(
            components.scores, null, log_z=log_z if full else None, uniform=uniform
        )
        outside = _outside(query, components, log_z, null)
        if uniform and not full and outside != 0.0:
            # Of a prior over these passages alone, the mass of others is not defined.
            outside = None
        bounded = outside is None and not uniform
        return Retrieval(
            passages=tuple(self.store.passages(components.rows)),
            log_prior=log_prior,
            inner_products=components.inner_products,
            log_null=None if log_null is None else float(log_null),
            outside=outside,
            temperature=query.temperature,
            outside_bounds=self._outside_bounds(found, components, null) if bounded else None,
        )

    def _bm25(self, question: str, settings: Settings, allowed: Rows | None) -> Scored | None:
        """Where no word is shared, the dense scores are all there is to go by."""
        if settings.lexical == 0.0:
            return None
        found = open_lexical(self.store) if self.lexical is None else self.lexical()
        search = found.tolerant() if settings.typos else found
        scored = Scored(*search.scores(question, allowed))
        return scored if scored.any else None

    def _query(self, question: str, settings: Settings, vector: Vectors | None) -> Query:
        allowed = self.store.rows_where(settings.where) if settings.where else None
        count = len(self.index) if allowed is None else len(allowed)
        if count == 0:
            found = f"none with {dict(settings.where)}" if settings.where else "none"
            remedy = (
                "loosen the filter" if settings.where else "index documents first: mixrag index PATH --store DIR"
            )
            raise StoreEmptyError("passages in the store", found, remedy)
        return Query(
            vector=self.encoder.encode_questions([question])[0] if vector is None else vector,
            k=count if settings.k == "all" else min(settings.k, count),
            count=count,
            allowed=allowed,
            temperature=settings.temperature or self.encoder.temperature,
            bm25=self._bm25(question, settings, allowed),
            share=settings.lexical,
            lexical_temperature=settings.lexical_temperature,
        )

    def _outside_bounds(
        self, found: Candidates, components: Candidates, null: float | None
    ) -> tuple[float, float] | None:
        """The mass outside rises with Z; None where the index has no bounds, or not under this filter."""
        bounds = log_z_bounds(self.index, found)
        if bounds is None:
            return None
        inside = components.scores.logsumexp(0)
        low, high = (float(mass_outside(inside, bound, null)) for bound in bounds.tolist())
        return low, high


def _outside(query: Query, components: Candidates, log_z: float | None, null: float | None) -> float | None:
    if len(components.rows) == query.count:
        return 0.0
    return None if log_z is None else float(mass_outside(components.scores.logsumexp(0), log_z, null))


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
        found.notices,
        missing=found.missing,
        shift=found.shift,
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
