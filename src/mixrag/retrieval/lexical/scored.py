"""BM25 of all passages for one question, and which of them are high."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixrag.retrieval.lexical.selection import best
from mixrag.utils.arrays import Floats, Rows, places_in

_BLOCK = 128
"""Scores in a block, of which the highest is known."""
_FEW = 16
"""Blocks are looked through one by one up to one in so many; beyond, reading all scores is faster."""


@dataclass(frozen=True)
class Scored:
    """The scores of N passages."""

    rows: Rows
    """(N,) row ids, ascending."""
    scores: Floats
    """(N,) 0 where no word is shared."""

    @cached_property
    def any(self) -> bool:
        """Whether one of them shares a word with the question."""
        return bool(self._highest.max(initial=0.0) > 0.0)

    def of(self, rows: Rows) -> Floats:
        """(K,) scores of these rows, in their order; each of them is there."""
        found: Floats = self.scores[places_in(self.rows, rows)]
        return found

    def best(self, n: int) -> Rows:
        """The n rows with the highest scores above 0, highest first; equal ones in their order."""
        least = 0.0
        if 0 < n <= len(self._highest):
            # Of so many blocks the highest scores are at least this.
            least = float(np.partition(self._highest, -n)[-n])
        return self.highest(self.places_from(least), n)[0]

    def places_from(self, least: float) -> Rows:
        """Places, ascending, of all rows that share a word and have at least this score."""
        least = max(least, np.nextafter(0.0, 1.0))
        blocks = np.flatnonzero(self._highest >= least)
        if len(blocks) * _FEW > len(self._highest):
            return np.flatnonzero(self.scores >= least)
        places = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
        places = places[places < len(self.scores)]
        found: Rows = places[self.scores[places] >= least]
        return found

    def highest(self, places: Rows, n: int) -> tuple[Rows, float]:
        """Of the rows at these places the n with the highest scores, highest first; and the last score, or 0."""
        chosen = places[best(self.scores[places], n)]
        return self.rows[chosen], float(self.scores[chosen[-1]]) if len(chosen) else 0.0

    @cached_property
    def _highest(self) -> Floats:
        """The highest score of each block."""
        starts = np.arange(0, len(self.scores), _BLOCK)
        found: Floats = np.maximum.reduceat(self.scores, starts) if len(starts) else self.scores
        return found
