"""FAISS indexes; which kind is a function of the corpus size, and is said in the description."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixrag.index.protocol import Hits, Rows, Vectors

FLAT_LIMIT = 50_000
"""Below it a full scan takes a few milliseconds, and approximation buys nothing."""
COMPRESSED_LIMIT = 1_000_000
"""Above it vectors are kept in eight bits a dimension instead of thirty-two."""
PROBES = 1 / 8
"""Share of the cells that a search visits."""
TRAINING_VECTORS_PER_CELL = 64


@dataclass(frozen=True)
class FaissIndex:
    """A FAISS index that knows the passages by their row ids."""

    index: Any
    factory: str

    @property
    def description(self) -> str:
        """See ``Index.description``."""
        kind = "exact" if self.factory.startswith("Flat") else "approximate"
        return f"FAISS {self.factory}, {kind}, chosen for {len(self)} passages"

    def __len__(self) -> int:
        """M."""
        return int(self.index.ntotal)

    def search(self, question: Vectors, k: int, allowed: Rows | None = None) -> Hits:
        """See ``Index.search``; an approximate index may miss some of the k."""
        k = min(k, len(self) if allowed is None else len(allowed))
        if k == 0:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        scores, rows = self.index.search(question[None], k, params=self._parameters(allowed))
        found = rows[0] >= 0  # FAISS fills up with -1 what it did not find
        return Hits(rows[0][found], scores[0][found])

    def log_normaliser(self, question: Vectors, temperature: float, allowed: Rows | None = None) -> None:
        """Not computed: the passages outside the visited cells are not scored."""
        return None

    def save(self, path: Path) -> None:
        """Write the index in FAISS' own format."""
        import faiss

        partial = path.with_suffix(f".{os.getpid()}.partial")
        faiss.write_index(self.index, str(partial))
        partial.replace(path)  # a kill leaves either no index or a whole one

    @classmethod
    def load(cls, path: Path, factory: str) -> FaissIndex:
        """Read what ``save`` wrote."""
        import faiss

        return cls(faiss.read_index(str(path)), factory)

    def _parameters(self, allowed: Rows | None) -> Any:
        import faiss

        options: dict[str, Any] = {} if allowed is None else {"sel": faiss.IDSelectorBatch(allowed)}
        if self.factory.startswith("Flat"):
            return faiss.SearchParameters(**options) if options else None
        cells = faiss.extract_index_ivf(self.index).nlist
        # A filter may leave its passages in cells far from the question: then visit all, and score only these.
        options["nprobe"] = cells if options else max(1, round(cells * PROBES))
        return faiss.SearchParametersIVF(**options)


def faiss_factory(passages: int) -> str:
    """The FAISS factory string for a corpus of this size.

    Flat (exact) up to 50,000; inverted lists of full vectors up to a million; inverted lists of eight-bit
    vectors beyond. About 4√M cells, the ratio that FAISS' own guidelines give.
    """
    if passages <= FLAT_LIMIT:
        return "Flat"
    cells = 2 ** round(math.log2(4 * math.sqrt(passages)))
    return f"IVF{cells},{'Flat' if passages <= COMPRESSED_LIMIT else 'SQ8'}"


def build_faiss(rows: Rows, vectors: Vectors, factory: str | None = None) -> FaissIndex:
    """Train and fill an index over ids (M,) and vectors (M, D); ``factory`` None chooses by size."""
    import faiss

    factory = factory or faiss_factory(len(rows))
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if factory == "Flat":
        index = faiss.IndexIDMap2(index)
    else:
        index.train(_sample(vectors, faiss.extract_index_ivf(index).nlist))
    index.add_with_ids(vectors, rows)
    return FaissIndex(index, factory)


def _sample(vectors: Vectors, cells: int) -> Vectors:
    wanted = cells * TRAINING_VECTORS_PER_CELL
    if len(vectors) <= wanted:
        return vectors
    return vectors[np.random.default_rng(0).choice(len(vectors), wanted, replace=False)]
