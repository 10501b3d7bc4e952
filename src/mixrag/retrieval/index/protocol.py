"""Index: maximum inner product search over the passage vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mixrag.utils.arrays import Floats, Rows, Vectors


@dataclass(frozen=True, slots=True)
class Hits:
    """The best passages for one question, best first; fewer than k where fewer match, never padded."""

    rows: Rows
    """(K,) row ids of the store."""
    inner_products: Vectors | Floats
    """(K,) d(z)·q(x)."""


class Index(Protocol):
    """Plug-in point: search over passage vectors (M, D) and their row ids (M,), which a builder was given.

    Optional members (``CompleteIndex``), with which more is known of the prior: ``description``, ``products``,
    ``log_normaliser_bounds``. Without ``products`` the search counts as approximate: the priors of the passages
    found are the same, the mass outside is unknown.
    """

    def search(self, question: Vectors, k: int, allowed: Rows | None = None) -> Hits:
        """The ``k`` largest inner products with a question (D,), among ``allowed`` rows if given."""
        ...


class CompleteIndex(Index, Protocol):
    """An index with nothing left optional."""

    @property
    def description(self) -> str:
        """The kind of index and why it was chosen, for people."""
        ...

    def __len__(self) -> int:
        """M, the number of passages."""
        ...

    def products(self, question: Vectors, allowed: Rows | None = None) -> Hits | None:
        """All M inner products (or those of ``allowed``), in any order; None where not all are computed.

        Added up in float64 (``exact_products``) they do not depend on which other passages there are.
        """
        ...

    def vectors_of(self, rows: Rows) -> Vectors:
        """(K, D) vectors of these rows (K,), in their order."""
        ...

    def log_normaliser_bounds(
        self, question: Vectors, temperature: float, known: Hits | None = None
    ) -> tuple[float, float] | None:
        """Lower and upper bound on log Σ_j exp(d(z_j)·q / T) over all M passages, up to rounding; or None.

        ``known``: inner products that have been computed; the more they are, the closer the bounds can be.
        """
        ...
