"""Index: maximum inner product search over the passage vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hits:
    """The best passages for one question, best first; fewer than k where fewer match, never padded."""

    rows: Rows
    """(K,) row ids of the store."""
    inner_products: Vectors
    """(K,) d(z)·q(x)."""


class Index(Protocol):
    """Passage vectors with their row ids."""

    @property
    def description(self) -> str:
        """The kind of index and why it was chosen, for people."""
        ...

    def __len__(self) -> int:
        """M, the number of passages."""
        ...

    def search(self, question: Vectors, k: int, allowed: Rows | None = None) -> Hits:
        """The ``k`` largest inner products with a question (D,), among ``allowed`` rows if given."""
        ...

    def log_normaliser(self, question: Vectors, temperature: float, allowed: Rows | None = None) -> float | None:
        """log Σ_j exp(d(z_j)·q / T) over all M passages (or all allowed), or None where it is not computed."""
        ...

    def log_normaliser_bounds(self, question: Vectors, temperature: float) -> tuple[float, float] | None:
        """What ``log_normaliser`` over all M passages is not below and not above, up to rounding; or None."""
        ...
