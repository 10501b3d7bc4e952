"""Reading vectors: each text has one, which is found by its hash; each is checked as it is read."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.corpus.store.lance.catalogue import Catalogue, Table
from mixrag.corpus.store.lance.known import KnownHashes
from mixrag.corpus.store.lance.passages import PassageReads
from mixrag.corpus.store.lance.tables import pyarrow
from mixrag.corpus.store.records import EncoderRecord
from mixrag.errors import StoreCorruptError
from mixrag.utils.arrays import Rows, Vectors

Ids = npt.NDArray[np.int64]
_FEW = 0.2
"""Up to this part of all vectors is taken one by one; more are read in one pass."""
_TAKEN = 4096
_WIDEST = 20_000
"""So many are asked of the index before all allowed ones are looked at."""


@dataclass(frozen=True)
class Places:
    """Where the vectors of the passages of one state are."""

    of: tuple[int, str, int]
    """Of which version of the passages, and which table of vectors at which version."""
    ids: Ids
    """(M,) of each passage, what Lance calls the row of its vector; -1 where there is none."""
    order: Ids
    """(M,) places of passages, sorted by ``ids``."""
    ordered: Ids
    """(M,) ``ids``, sorted."""
    stored: int
    """Vectors in the table."""

    def passages(self, ids: Ids) -> Ids:
        """The places of the passages that have one of these vectors."""
        low, high = (np.searchsorted(self.ordered, ids, side=side) for side in ("left", "right"))
        parts = [self.order[start:stop] for start, stop in zip(low.tolist(), high.tolist(), strict=True)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


class VectorReads(PassageReads):
    """See ``Store``."""

    own_search = "LanceDB's IVF-PQ index"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._places_mutex = threading.Lock()
        self._places_read: Places | None = None

    @property
    def encoder_fingerprint(self) -> str | None:
        """See ``Store.encoder_fingerprint``."""
        found: str | None = self.now.settings["encoder"]
        return found

    @property
    def encoder(self) -> EncoderRecord | None:
        """See ``Store.encoder``."""
        now = self.now
        fingerprint = now.settings["encoder"]
        found = now.table(fingerprint)
        return None if found is None else EncoderRecord(found.name, fingerprint, found.dimension)

    @property
    def largest_norm(self) -> float | None:
        """See ``Store.largest_norm``."""
        now = self.now
        fingerprint = now.settings["encoder"]
        return None if now.table(fingerprint) is None else noted_norm(now, fingerprint)

    def vectors(self, after: int = -1) -> tuple[Rows, Vectors]:
        """See ``Store.vectors``."""
        now = self.now
        found = self.vector_table(now)
        if found is None:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        rows = now.layout.rows
        start = int(np.searchsorted(rows, after, side="right"))
        return rows[start:], self._vectors_at(now, found, np.arange(start, len(rows)))

    def vectors_of(self, row_ids: Sequence[int] | Rows) -> Vectors:
        """See ``Store.vectors_of``."""
        now = self.now
        found = self.vector_table(now)
        if found is None or not len(row_ids):
            return np.empty((0, 0 if found is None else found[0].dimension), np.float32)
        rows = np.asarray(row_ids, np.int64)
        places = now.layout.offsets(rows)
        if (places < 0).any():
            raise self._no_vector(found[0], "none", int(rows[int((places < 0).argmax())]))
        return self._vectors_at(now, found, places)

    def nearest(self, question: Vectors, k: int, allowed: Rows | None = None) -> Rows:
        """See ``Store.nearest``; refined by LanceDB, whose scores by the index alone are wrong."""
        with self.snapshot():
            now = self.now
            found = self.vector_table(now)
            if found is None:
                return np.empty(0, np.int64)
            places, rows = self._places_of_vectors(now, found), now.layout.rows
            total = len(rows) if allowed is None else len(allowed)
            asked = k + 16 if allowed is None else int((k + 16) * len(rows) / max(total, 1))
            while asked <= max(_WIDEST, 2 * k):
                near = rows[places.passages(np.unique(self.tables.near(found[1], question, asked, len(rows))))]
                near = near if allowed is None else near[np.isin(near, allowed)]
                if len(near) >= min(k, total):
                    return near
                if asked >= places.stored:
                    break
                asked *= 4
            return self._scanned(question, k, rows if allowed is None else allowed)

    def _scanned(self, question: Vectors, k: int, rows: Rows) -> Rows:
        """The k nearest of these rows, all of which are looked at."""
        best, products = np.empty(0, np.int64), np.empty(0, np.float32)
        for start in range(0, len(rows), 65536):
            block = rows[start : start + 65536]
            best = np.concatenate([best, block])
            products = np.concatenate([products, self.vectors_of(block) @ question])
            top = np.argsort(-products, kind="stable")[:k]
            best, products = best[top], products[top]
        return best

    def missing_vectors(self, fingerprint: str, hashes: Collection[bytes]) -> set[bytes]:
        """See ``Store.missing_vectors``; of the vectors as they are now, also those that no commit names yet."""
        found = self.now.table(fingerprint)
        if found is None or not hashes:
            return set(hashes)
        known = self._known_hashes
        if known is None or known.table != found.table:
            stored = self.tables.column(self.tables.latest(found.table), "text_hash")["text_hash"]
            self._known_hashes = known = KnownHashes(found.table, stored)
        return known.missing(hashes)

    # --- Where vectors are -------------------------------------------------------------------------

    def _places_of_vectors(self, now: Catalogue, found: tuple[Table, Any]) -> Places:
        with self._places_mutex:
            of = now.settings["passages"], found[0].table, found[0].version
            if self._places_read is None or self._places_read.of != of:
                self._places_read = self._read_places(now, found[1], of)
            return self._places_read

    def _read_places(self, now: Catalogue, table: Any, of: tuple[int, str, int]) -> Places:
        pa = pyarrow()
        stored = self.tables.column(table, "text_hash", ids=True)
        at = pa.compute.index_in(self.hashes(now), value_set=stored["text_hash"])
        at = np.asarray(pa.compute.fill_null(at, -1), np.int64)
        ids = np.asarray(stored["_rowid"], np.uint64).astype(np.int64)
        of_passages = np.where(at < 0, -1, ids[at] if len(ids) else -1)
        order = np.argsort(of_passages, kind="stable")
        return Places(of, of_passages, order, of_passages[order], len(ids))

    def _vectors_at(self, now: Catalogue, found: tuple[Table, Any], places: Ids) -> Vectors:
        """(K, D) vectors of the passages at these places (K,) in the order of all."""
        record, table = found
        if not len(places):
            return np.empty((0, record.dimension), np.float32)
        known = self._places_of_vectors(now, found)
        ids = known.ids[places]
        if (ids < 0).any():
            raise self._no_vector(record, "none", self._row(now, places, int((ids < 0).argmax())))
        distinct, inverse = np.unique(ids, return_inverse=True)
        vectors = self._read(table, distinct, record.dimension, known.stored)
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
        if not finite.all():
            wrong = int((~finite[inverse]).argmax())
            raise self._no_vector(record, "one with a NaN or an infinity", self._row(now, places, wrong))
        return vectors if np.array_equal(inverse, np.arange(len(distinct))) else vectors[inverse]

    def _read(self, table: Any, ids: Ids, dimension: int, stored: int) -> Vectors:
        """(K, D) vectors in these rows of Lance (K,), ascending."""
        vectors = np.empty((len(ids), dimension), np.float32)
        if len(ids) > _FEW * stored:
            parts = self.tables.scan(table, ["vector"], ids=True)
        else:
            blocks = (ids[start : start + _TAKEN] for start in range(0, len(ids), _TAKEN))
            parts = (self.tables.take_ids(table, block.astype(np.uint64), ["vector"]) for block in blocks)
        filled = 0
        for part in parts:
            read = np.asarray(part["_rowid"], np.uint64).astype(np.int64)
            places = np.searchsorted(ids, read)
            wanted = (places < len(ids)) & (ids[np.minimum(places, len(ids) - 1)] == read)
            vectors[places[wanted]] = _matrix(part["vector"], dimension)[wanted]
            filled += int(wanted.sum())
        if filled != len(ids):
            raise self.damaged(f"{filled} vectors instead of {len(ids)}")
        return vectors

    def _row(self, now: Catalogue, places: Ids, wrong: int) -> int:
        return int(now.layout.rows[places[wrong]])

    def _no_vector(self, record: Table, found: str, row: int) -> StoreCorruptError:
        return StoreCorruptError(
            f"a vector of {record.dimension} finite numbers of every passage in {self.name}",
            f"{found}, of passage {row}",
            f"compute it again: mixrag index --re-embed --store {self.name}",
        )


def noted_norm(now: Catalogue, fingerprint: str) -> float | None:
    """The length of the longest vector of an encoder, as far as it was noted; that of one that is gone stays."""
    found: float | None = now.settings.get("norms", {}).get(fingerprint)
    return found


def _matrix(column: Any, dimension: int) -> Vectors:
    """(N, D) of an array, or a chunked one, of lists of fixed size."""
    if hasattr(column, "chunks"):
        column = column.combine_chunks()
        column = column.chunk(0) if hasattr(column, "chunk") else column
    return np.asarray(column.flatten(), np.float32).reshape(-1, dimension)
