"""Reading the vectors of passages; each is checked as it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mixrag.corpus.store.sql import SqlStore
from mixrag.corpus.store.sqlite.connections import Connections
from mixrag.errors import StoreCorruptError
from mixrag.utils.arrays import Rows, Vectors


class VectorQueries(SqlStore):
    """Queries for vectors; ``SqliteStore`` supplies the connections."""

    directory: Path
    _connections: Connections

    def vectors(self, after: int = -1) -> tuple[Rows, Vectors]:
        """See ``Store.vectors``."""
        with self.snapshot():
            encoder = self.encoder
            if encoder is None:
                return np.empty(0, np.int64), np.empty((0, 0), np.float32)
            (count,) = self.query("SELECT count(*) FROM passages WHERE id > ?", (after,))[0]
            rows, vectors = np.empty(count, np.int64), np.empty((count, encoder.dimension), np.float32)
            filled = 0
            with self._connections.use() as connection:
                sql = f"SELECT p.id, v.vector {_PASSAGE_VECTORS} WHERE p.id > ? ORDER BY p.id"
                cursor = connection.execute(sql, (encoder.fingerprint, after))
                while block := cursor.fetchmany(4096):
                    ids, blobs = zip(*block, strict=True)
                    stop = filled + len(block)
                    rows[filled:stop] = ids
                    vectors[filled:stop] = stored_vectors(self.directory, ids, blobs, encoder.dimension)
                    filled = stop
        return rows, vectors

    def vectors_of(self, row_ids: Sequence[int] | Rows) -> Vectors:
        """See ``Store.vectors_of``."""
        wanted = [int(row) for row in row_ids]
        encoder = self.encoder
        if encoder is None or not wanted:
            return np.empty((0, 0 if encoder is None else encoder.dimension), np.float32)
        sql = f"SELECT p.id, v.vector {_PASSAGE_VECTORS} WHERE {self.among('p.id')}"
        found = dict(self.query(sql, (encoder.fingerprint, self.array(wanted))))
        return stored_vectors(self.directory, wanted, [found.get(row) for row in wanted], encoder.dimension)


_PASSAGE_VECTORS = (
    "FROM passages p JOIN encoders e ON e.fingerprint = ?"
    " LEFT JOIN vectors v ON v.encoder_id = e.id AND v.text_hash = p.text_hash"
)


def stored_vectors(directory: Path, rows: Sequence[int], blobs: Sequence[bytes | None], dimension: int) -> Vectors:
    """(N, D) vectors of passages (N,), once each is one of D dimensions.

    Raises:
        StoreCorruptError: one is not.
    """
    wrong = next((i for i, blob in enumerate(blobs) if not _is_sized(blob, dimension)), None)
    if wrong is None:
        vectors = np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), dimension)  # type: ignore[arg-type]
        valid = _are_finite(vectors)
        if valid.all():
            return vectors
        wrong, found = int(valid.argmin()), "one with a NaN or an infinity"
    else:
        blob = blobs[wrong]
        found = "none" if blob is None else f"one of {len(blob) / 4:g} numbers"
    raise StoreCorruptError(
        f"a vector of {dimension} finite numbers of every passage in {directory}",
        f"{found}, of passage {rows[wrong]}",
        f"compute it again: mixrag index --re-embed --store {directory}",
    )


def is_vector(blob: object, dimension: int) -> bool:
    """True for the bytes of a vector (D,) of finite numbers."""
    return _is_sized(blob, dimension) and bool(_are_finite(np.frombuffer(blob, "<f4")[None])[0])  # type: ignore[call-overload]


def _is_sized(blob: object, dimension: int) -> bool:
    return isinstance(blob, bytes) and len(blob) == 4 * dimension


def _are_finite(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """(N,) True where all numbers are finite, and not so large that their products are not."""
    with np.errstate(over="ignore", invalid="ignore"):
        finite: npt.NDArray[np.bool_] = np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
    return finite
