"""Approximate search for large corpora: an inverted file (IVF) of four-bit codes, then exact products.

FAISS' inverted lists, one a cluster, hold product-quantised codes of D/4 bytes a passage, which its fast scan
reads (André, Kermarrec and Le Scouarnec 2017). The candidates' vectors are read from a file that is mapped, not
loaded, so that what is returned are exact inner products. How many clusters a search visits is measured when
the index is built: the fewest with which questions made of the passages find ``RECALL_GOAL`` of their ten nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mixrag.retrieval.index.cluster_stats import Clusters, ClusterStats
from mixrag.retrieval.index.exact import best_of, exact_products
from mixrag.retrieval.index.protocol import Hits
from mixrag.utils.arrays import Rows, Vectors, places_in

RECALL_GOAL = 0.95
"""Recall at ten that calibration asks for."""
CANDIDATES = 10
"""Exact products per passage that is wanted."""
LEAST_CANDIDATES = 100
MOST_CLUSTERS = 4096
"""Every vector is compared with every centre when an index is built. With 4√M of them ten million vectors of 384
dimensions are 126 TFLOP, an hour of two cores; with these 31, and a search reads more codes."""
_QUESTIONS = 256
_TRAINING_VECTORS_PER_CLUSTER = 40
_BLOCK = 65_536


class DamagedIndexError(Exception):
    """What was read of an index cannot be of the passages; it has to be built again."""


@dataclass(frozen=True)
class IVFIndex:
    """A FAISS index of codes by line number, and the vectors (N, D) in these lines."""

    codes: Any
    vectors: Vectors
    """(N, D); mapped from a file, where there is one."""
    rows: Rows
    """(N,) row ids of the store, ascending but for removed lines, which have -1."""
    cluster: Clusters
    """(N,) the cluster of each line."""
    stats: ClusterStats
    trained_on: int
    """Passages when it was built; more may have been added since."""
    probes: int
    """Clusters that a search visits."""
    recall: float
    """Recall at ten that calibration measured with so many."""

    @property
    def description(self) -> str:
        """See ``CompleteIndex.description``."""
        added = "" if len(self.rows) == self.trained_on else f", built with {self.trained_on}"
        kind = f"FAISS IVF{self.codes.nlist},PQ{self.codes.pq.M}x4fs refined by exact products, approximate"
        measured = (
            f"visits {self.probes} clusters, recall at ten {self.recall:.3f} on questions made of the passages"
        )
        return f"{kind}, chosen for {len(self)} passages{added}; {measured}"

    def __len__(self) -> int:
        """M."""
        return int(self.stats.counts.sum())

    def search(self, question: Vectors, k: int, allowed: Rows | None = None) -> Hits:
        """See ``Index.search``; may miss some of the k. With a filter, or for many, all products are computed."""
        if allowed is not None:
            return self._best(self._lines_of(allowed), question, k)
        # Lines that were removed are still in FAISS' lists, and take the places of others.
        removed = len(self.rows) / max(1, len(self))
        wanted = math.ceil(max(LEAST_CANDIDATES, CANDIDATES * k) * removed)
        if wanted >= len(self) // 4:
            return self._best(np.flatnonzero(self.rows >= 0), question, k)
        return self._best(self._near(question, wanted), question, k)

    def products(self, question: Vectors, allowed: Rows | None = None) -> Hits | None:
        """With a filter, whose passages are all looked at; None without one."""
        if allowed is None:
            return None
        lines = self._lines_of(allowed)
        products = exact_products(self.vectors, question, lines)
        if not np.isfinite(products).all():
            raise DamagedIndexError
        return Hits(self.rows[lines], products)

    def vectors_of(self, rows: Rows) -> Vectors:
        """See ``CompleteIndex.vectors_of``."""
        found = np.asarray(self.vectors[self._lines_of(rows)])
        if len(found) != len(rows) or not np.isfinite(found).all():
            raise DamagedIndexError
        return found

    def log_normaliser_bounds(
        self, question: Vectors, temperature: float, known: Hits | None = None
    ) -> tuple[float, float]:
        """See ``CompleteIndex.log_normaliser_bounds``.

        What is known is summed exactly, the rest of each cluster is bounded by its statistics.
        """
        if known is None:
            lines = self._near(question, LEAST_CANDIDATES)
            products = self.vectors[lines].astype(np.float64) @ question.astype(np.float64)
        else:
            lines, products = self._lines_of(known.rows), known.inner_products.astype(np.float64)
        if len(lines) != len(products) or not np.isfinite(products).all():
            raise DamagedIndexError
        seen = np.logaddexp.reduce(products / temperature)
        low, high = self.stats.log_bounds(question, temperature, products, self.cluster[lines])
        return float(np.logaddexp(seen, low)), float(np.logaddexp(seen, high))

    def with_probes(self, probes: int) -> IVFIndex:
        """The same, visiting so many clusters."""
        return replace(self, probes=probes)

    def _near(self, question: Vectors, wanted: int) -> Rows:
        import faiss

        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = self.probes
        _, found = self.codes.search(question[None], wanted, params=parameters)
        lines = found[0][found[0] >= 0]
        if lines.max(initial=-1) >= len(self.rows):
            raise DamagedIndexError
        return np.sort(lines[self.rows[lines] >= 0])  # in the order of the file

    def _best(self, lines: Rows, question: Vectors, k: int) -> Hits:
        return best_of(self.rows[lines], self._products(lines, question), k)

    def _products(self, lines: Rows, question: Vectors) -> Vectors:
        blocks = [self.vectors[lines[i : i + _BLOCK]] @ question for i in range(0, len(lines), _BLOCK)]
        products = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
        if not np.isfinite(products).all():
            raise DamagedIndexError
        return products

    def _lines_of(self, rows: Rows) -> Rows:
        """The lines of these rows, in their order; rows that are not there are left out."""
        lines, present = self._present
        places = places_in(present, np.asarray(rows))
        found = places < len(present)
        found[found] = present[places[found]] == rows[found]
        return lines[places[found]]

    @cached_property
    def _present(self) -> tuple[Rows, Rows]:
        """Lines that were not removed, and their rows, ascending."""
        lines = np.flatnonzero(self.rows >= 0)
        return lines, self.rows[lines]


def clusters_for(passages: int) -> int:
    """About 4√M clusters, a power of two, the ratio that FAISS' own guidelines give; at most ``MOST_CLUSTERS``."""
    return min(MOST_CLUSTERS, int(2 ** round(math.log2(4 * math.sqrt(max(1, passages))))))


def build_ivf(rows: Rows, vectors: Vectors, clusters: int | None = None) -> IVFIndex:
    """Train, fill and calibrate an index over ids (M,), ascending, and vectors (M, D)."""
    codes = _trained(vectors, clusters or clusters_for(len(rows)))
    cluster = _add(codes, vectors, 0)
    stats = ClusterStats.of(vectors, cluster, codes.nlist)
    return calibrated(IVFIndex(codes, vectors, rows, cluster, stats, len(rows), codes.nlist, 1.0))


def extended(index: IVFIndex, present: Rows, rows: Rows, vectors: Vectors) -> IVFIndex:
    """The index for the rows ``present``, without training again.

    Args:
        index: its codes are added to in place.
        present: (M,) all rows there are now, ascending.
        rows: (N,) the row of each line of ``vectors``, with the lines that ``index`` has coming first.
        vectors: (N, D) old lines and new ones.
    """
    old = len(index.rows)
    gone = np.flatnonzero((index.rows >= 0) & ~np.isin(index.rows, present))
    stats = index.stats.without(vectors[gone], index.cluster[gone])
    cluster = _add(index.codes, vectors[old:], old)
    return replace(
        index,
        vectors=vectors,
        rows=np.where(np.isin(rows, present), rows, -1),
        cluster=np.concatenate([index.cluster, cluster]),
        stats=stats.with_added(vectors[old:], cluster),
    )


def calibrated(index: IVFIndex, goal: float = RECALL_GOAL) -> IVFIndex:
    """With the fewest clusters to visit, in steps of a factor of 1.2, that reach the goal on made questions.

    A made question is the mean of two passages, so that it is similar to both and equal to neither.
    """
    random = np.random.default_rng(1)
    first, second = random.integers(0, len(index.vectors), (2, _QUESTIONS))
    between = (index.vectors[first] + index.vectors[second]) / 2
    questions = np.ascontiguousarray(between / np.maximum(np.linalg.norm(between, axis=1, keepdims=True), 1e-12))
    truth = _nearest(index.vectors, questions, min(10, len(index)))
    probes = max(1, index.codes.nlist // 64)
    while True:
        tried = index.with_probes(min(probes, index.codes.nlist))
        found = [tried.search(each, truth.shape[1]).rows for each in questions]
        recall = float(np.mean([np.isin(index.rows[a], b).mean() for a, b in zip(truth, found, strict=True)]))
        if recall >= goal or probes >= index.codes.nlist:
            return replace(tried, recall=recall)
        probes = math.ceil(1.2 * probes)


def _trained(vectors: Vectors, clusters: int) -> Any:
    import faiss

    dimension = vectors.shape[1]
    pieces = dimension // 2 if dimension % 2 == 0 else dimension
    clusters = min(clusters, len(vectors))
    codes: Any = faiss.index_factory(dimension, f"IVF{clusters},PQ{pieces}x4fs", faiss.METRIC_INNER_PRODUCT)
    codes.cp.niter, codes.cp.max_points_per_centroid = 6, _TRAINING_VECTORS_PER_CLUSTER
    codes.cp.min_points_per_centroid = codes.pq.cp.min_points_per_centroid = 1  # no warnings on standard error
    count, wanted = len(vectors), clusters * _TRAINING_VECTORS_PER_CLUSTER
    if count <= wanted:
        sample = np.resize(np.arange(count), max(count, 16))  # a code book has 16 entries
    else:
        sample = np.sort(np.random.default_rng(0).choice(count, wanted, replace=False))
    codes.train(np.ascontiguousarray(vectors[sample]))
    return codes


def _add(codes: Any, vectors: Vectors, first: int) -> Clusters:
    """Add lines ``first``, ``first`` + 1, ...; the cluster of each."""
    for start in range(0, len(vectors), _BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK])
        codes.add_with_ids(block, np.arange(first + start, first + start + len(block)))
    return _clusters(codes)[first:]


def _clusters(codes: Any) -> Clusters:
    """(N,) the list of each line; to find it by the centres again would double the time of adding."""
    import faiss

    lists, cluster = codes.invlists, np.empty(codes.ntotal, np.int32)
    for number in range(codes.nlist):
        count = lists.list_size(number)
        if count:
            cluster[faiss.rev_swig_ptr(lists.get_ids(number), count)] = number
    return cluster


def _nearest(vectors: Vectors, questions: Vectors, k: int) -> Rows:
    """(B, k) lines with the largest inner products."""
    import faiss

    heap = faiss.ResultHeap(len(questions), k, keep_max=True)
    for start in range(0, len(vectors), _BLOCK):
        products, lines = faiss.knn(
            questions, np.ascontiguousarray(vectors[start : start + _BLOCK]), k, faiss.METRIC_INNER_PRODUCT
        )
        heap.add_result(products, lines + start)
    heap.finalize()
    return np.asarray(heap.I)
