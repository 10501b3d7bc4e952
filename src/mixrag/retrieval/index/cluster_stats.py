"""What is known of the passages of each cell without looking at them: how many, their mean, how far they reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mixrag.probability import log_cell_bounds
from mixrag.retrieval.index.protocol import Vectors

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ClusterStats:
    """Counts, sums and reach of C cells; ``centres`` stay where they were put first, so that reaches only grow."""

    counts: npt.NDArray[np.int64]
    """(C,)"""
    sums: Floats
    """(C, D) Σ z over the passages of a cell."""
    centres: Floats
    """(C, D)"""
    reach: Floats
    """(C,) at least the largest ‖z − centre‖."""

    @classmethod
    def of(cls, vectors: Vectors, cell: Cells, cells: int) -> ClusterStats:
        """Of vectors (N, D) in the cells (N,); their means become the centres."""
        counts, sums = _sums(vectors, cell, cells)
        centres = sums / np.maximum(counts, 1)[:, None]
        return cls(counts, sums, centres, np.zeros(cells))._reaching(vectors, cell)

    def with_added(self, vectors: Vectors, cell: Cells) -> ClusterStats:
        """The same after these vectors (N, D) have joined the cells (N,)."""
        counts, sums = _sums(vectors, cell, len(self.counts))
        joined = ClusterStats(self.counts + counts, self.sums + sums, self.centres, self.reach)
        return joined._reaching(vectors, cell)

    def without(self, vectors: Vectors, cell: Cells) -> ClusterStats:
        """The same after these vectors (N, D) have left the cells (N,); what was in reach still is."""
        counts, sums = _sums(vectors, cell, len(self.counts))
        return ClusterStats(self.counts - counts, self.sums - sums, self.centres, self.reach)

    def log_bounds(self, question: Vectors, temperature: float, seen: Vectors, cell: Cells) -> Floats:
        """(2,) bounds on log Σ e^{z·q/T} over all passages of the cells but those seen (probability/unseen.py).

        ``seen`` are vectors (N, D) of passages in the cells (N,), which are left out of the sum.
        """
        asked = question.astype(np.float64) / temperature
        counts, totals = self.counts.copy(), self.sums @ asked
        np.subtract.at(counts, cell, 1)
        np.subtract.at(totals, cell, seen @ asked)
        reach = np.linalg.norm(asked) * self.reach
        parts = (counts, totals / np.maximum(counts, 1), self.centres @ asked, reach)
        return log_cell_bounds(*map(torch.from_numpy, parts)).numpy()

    def _reaching(self, vectors: Vectors, cell: Cells) -> ClusterStats:
        reach = self.reach.copy()
        for block in _blocks(len(vectors)):
            far = np.linalg.norm(vectors[block] - self.centres[cell[block]], axis=1)
            np.maximum.at(reach, cell[block], far)
        return ClusterStats(self.counts, self.sums, self.centres, reach)


def _sums(vectors: Vectors, cell: Cells, cells: int) -> tuple[npt.NDArray[np.int64], Floats]:
    sums = np.zeros((cells, vectors.shape[1]))
    for block in _blocks(len(vectors)):
        order = np.argsort(cell[block], kind="stable")
        found, first = np.unique(cell[block][order], return_index=True)
        sums[found] += np.add.reduceat(vectors[block][order].astype(np.float64), first, axis=0)
    return np.bincount(cell, minlength=cells), sums


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + 65_536) for start in range(0, count, 65_536)]
