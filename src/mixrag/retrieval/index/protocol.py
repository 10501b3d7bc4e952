"""Index: maximum inner product search over the passage vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mixrag.utils.arrays import Rows, Vectors


@dataclass(frozen=True, slots=True)
class Hits:
    """The best passages for one question, best first; fewer than k where fewer match, never padded."""

    rows: Rows
    """(K,) row ids of the store."""
    inner_products: Vectors
    """(K,) d(z)·q(x)."""


class Index(Protocol):
    """Plug-in point: search over passage vectors (M, D) and their row ids (M,), which a builder was given.

    Optional members (``CompleteIndex``), with which more is known of the prior: ``description``,
    ``log_normaliser``, ``log_normaliser_bounds``. Without them the search counts as approximate: the prior is
    normalised over what is found, and the mass outside is unknown.
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

    def log_normaliser(self, question: Vectors, temperature: float, allowed: Rows | None = None) -> float | None:
        """log Σ_j exp(d(z_j)·q / T) over all M passages (or all allowed), or None where it is not computed."""
        ...

    def log_normaliser_bounds(self, question: Vectors, temperature: float) -> tuple[float, float] | None:
        """Lower and upper bound on ``log_normaliser`` over all M passages, up to rounding; or None."""
        ...
