"""Statistics of the clusters of an IVF index: how many passages each has, their mean, and its radius."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from mixrag.probability import log_cluster_bounds
from mixrag.utils.arrays import Floats, Vectors

Clusters = npt.NDArray[np.int32]
"""(N,) the cluster of each vector."""


@dataclass(frozen=True)
class ClusterStats:
    """Counts, sums and radii of C clusters; the centres do not move, so that radii only grow."""

    counts: npt.NDArray[np.int64]
    """(C,)"""
    sums: Floats
    """(C, D) Σ z over the passages of a cluster."""
    centres: Floats
    """(C, D)"""
    radii: Floats
    """(C,) at least the largest ‖z − centre‖."""

    @classmethod
    def of(cls, vectors: Vectors, cluster: Clusters, clusters: int) -> ClusterStats:
        """Of vectors (N, D) in the clusters (N,); their means become the centres."""
        counts, sums = _sums(vectors, cluster, clusters)
        centres = sums / np.maximum(counts, 1)[:, None]
        return cls(counts, sums, centres, np.zeros(clusters))._grown(vectors, cluster)

    def with_added(self, vectors: Vectors, cluster: Clusters) -> ClusterStats:
        """The same after these vectors (N, D) have joined the clusters (N,)."""
        counts, sums = _sums(vectors, cluster, len(self.counts))
        joined = ClusterStats(self.counts + counts, self.sums + sums, self.centres, self.radii)
        return joined._grown(vectors, cluster)

    def without(self, vectors: Vectors, cluster: Clusters) -> ClusterStats:
        """The same after these vectors (N, D) have left the clusters (N,); the radii stay."""
        counts, sums = _sums(vectors, cluster, len(self.counts))
        return ClusterStats(self.counts - counts, self.sums - sums, self.centres, self.radii)

    def log_bounds(self, question: Vectors, temperature: float, products: Floats, cluster: Clusters) -> Floats:
        """(2,) bounds on log Σ e^{z·q/T} over all passages but those scored (probability/unseen.py).

        Args:
            question: (D,).
            temperature: T.
            products: (N,) z·q of the passages that are left out of the sum.
            cluster: (N,) their clusters.
        """
        asked = question.astype(np.float64) / temperature
        counts, of_centres = self.counts.copy(), self.centres @ asked
        moved, sums = self._moved
        totals = counts * of_centres
        totals[moved] = sums @ asked
        np.subtract.at(counts, cluster, 1)
        np.subtract.at(totals, cluster, products / temperature)
        parts = (
            counts,
            totals / np.maximum(counts, 1),
            of_centres,
            np.linalg.norm(asked) * self.radii,
        )
        return log_cluster_bounds(*map(torch.from_numpy, parts)).numpy()

    @cached_property
    def _moved(self) -> tuple[npt.NDArray[np.int64], Floats]:
        """Clusters whose mean is no longer their centre, and their sums (N, D)."""
        means = self.sums / np.maximum(self.counts, 1)[:, None]
        moved = np.flatnonzero((means != self.centres).any(axis=1))
        return moved, self.sums[moved]

    def _grown(self, vectors: Vectors, cluster: Clusters) -> ClusterStats:
        radii = self.radii.copy()
        for block in _blocks(len(vectors)):
            far = np.linalg.norm(vectors[block] - self.centres[cluster[block]], axis=1)
            np.maximum.at(radii, cluster[block], far)
        return ClusterStats(self.counts, self.sums, self.centres, radii)


def _sums(vectors: Vectors, cluster: Clusters, clusters: int) -> tuple[npt.NDArray[np.int64], Floats]:
    sums = np.zeros((clusters, vectors.shape[1]))
    for block in _blocks(len(vectors)):
        order = np.argsort(cluster[block], kind="stable")
        found, first = np.unique(cluster[block][order], return_index=True)
        sums[found] += np.add.reduceat(vectors[block][order].astype(np.float64), first, axis=0)
    return np.bincount(cluster, minlength=clusters), sums


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + 65_536) for start in range(0, count, 65_536)]
