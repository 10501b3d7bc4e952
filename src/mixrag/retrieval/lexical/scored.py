"""BM25 of all passages for one question, and which of them are high."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixrag.retrieval.lexical.selection import best
from mixrag.utils.arrays import Floats, Rows, places_in


@dataclass(frozen=True)
class Scored:
    """The scores of N passages."""

    rows: Rows
    """(N,) row ids, ascending."""
    scores: Floats
    """(N,) 0 where no word is shared."""

    def of(self, rows: Rows) -> Floats:
        """(K,) scores of these rows, in their order; each of them is there."""
        found: Floats = self.scores[places_in(self.rows, rows)]
        return found

    def best(self, n: int) -> Rows:
        """The n rows with the highest scores, highest first; equal ones in their order."""
        return self.rows[best(self.scores, n)]

    def places_from(self, least: float) -> Rows:
        """Places of all rows that share a word and have at least this score."""
        found = self.scores >= least if least > 0.0 else self.scores > 0.0
        return np.flatnonzero(found)

    def highest(self, places: Rows, n: int) -> tuple[Rows, float]:
        """Of the rows at these places the n with the highest scores, and the last of them."""
        chosen = places[best(self.scores[places], n)]
        return self.rows[chosen], float(self.scores[chosen[-1]])
