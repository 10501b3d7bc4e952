"""The vectors of texts: read and checked, written as they come, and the change from one encoder to another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from mixrag.corpus.store.norms import grown_norm, norm_key
from mixrag.corpus.store.postgres.changes import bump_generation, drop_orphan_vectors, set_meta
from mixrag.corpus.store.postgres.connections import Database
from mixrag.corpus.store.records import EncoderRecord
from mixrag.corpus.store.sql import SqlStore
from mixrag.errors import EncoderMismatchError, StoreCorruptError
from mixrag.utils.arrays import Rows, Vectors

_BLOCK = 4096
_PASSAGE_VECTORS = (
    "SELECT p.id, vector_send(v.vector) FROM passages p JOIN encoders e ON e.fingerprint = %s"
    " LEFT JOIN vectors v ON v.encoder_id = e.id AND v.text_hash = p.text_hash"
)


class VectorQueries(SqlStore):
    """Vectors of a store; ``PostgresStore`` supplies the transactions."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Database]:
        """One transaction."""

    def vectors(self, after: int = -1) -> tuple[Rows, Vectors]:
        """See ``Store.vectors``."""
        with self.snapshot():
            encoder = self.encoder
            if encoder is None:
                return np.empty(0, np.int64), np.empty((0, 0), np.float32)
            (count,) = self.query("SELECT count(*) FROM passages WHERE id > %s", (after,))[0]
            rows, vectors = np.empty(count, np.int64), np.empty((count, encoder.dimension), np.float32)
            filled = 0
            for ids, blobs in self._blocks(encoder.fingerprint, after):
                stop = filled + len(ids)
                rows[filled:stop] = ids
                vectors[filled:stop] = self._checked(ids, blobs, encoder.dimension)
                filled = stop
        return rows, vectors

    def vectors_of(self, row_ids: Sequence[int] | Rows) -> Vectors:
        """See ``Store.vectors_of``."""
        wanted = [int(row) for row in row_ids]
        encoder = self.encoder
        if encoder is None or not wanted:
            return np.empty((0, 0 if encoder is None else encoder.dimension), np.float32)
        sql = f"{_PASSAGE_VECTORS} WHERE p.id = ANY(%s::bigint[])"
        found = dict(self.query(sql, (encoder.fingerprint, wanted)))
        return self._checked(wanted, [found.get(row) for row in wanted], encoder.dimension)

    def missing_vectors(self, fingerprint: str, hashes: Collection[bytes]) -> set[bytes]:
        """See ``Store.missing_vectors``."""
        sql = (
            "SELECT v.text_hash FROM unnest(%s::bytea[]) u JOIN vectors v ON v.text_hash = u"
            " AND v.encoder_id = (SELECT id FROM encoders WHERE fingerprint = %s)"
        )
        return {*hashes} - {hash_ for (hash_,) in self.query(sql, (list(hashes), fingerprint))}

    def add_vectors(self, encoder: EncoderRecord, hashes: Sequence[bytes], vectors: Vectors) -> None:
        """See ``Store.add_vectors``."""
        with self.transaction() as db:
            encoder_id, first = _encoder_id(db, encoder)
            key = norm_key(encoder.fingerprint)
            norm = grown_norm(self.number(key), vectors, first=first)
            if norm is not None:
                set_meta(db, key, repr(norm))
            statement = "COPY vectors (encoder_id, text_hash, vector) FROM STDIN WITH (FORMAT BINARY)"
            with db.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(["int4", "bytea", "vector"])
                for digest, vector in zip(hashes, vectors, strict=True):
                    copy.write_row((encoder_id, digest, vector))

    def claim_encoder(self, fingerprint: str) -> None:
        """See ``Store.claim_encoder``."""
        with self.transaction() as db:
            set_meta(db, "encoder", fingerprint)
            db.execute("DELETE FROM encoders WHERE fingerprint <> %s", (fingerprint,))

    def replace_encoder(self, fingerprint: str, hashes: Mapping[int, bytes], *, changed: bool) -> None:
        """See ``Store.replace_encoder``."""
        with self.transaction() as db:
            arrays = "unnest(%s::bigint[], %s::bytea[]) u (row, hash)"
            update = f"UPDATE passages SET text_hash = u.hash FROM {arrays} WHERE id = u.row"
            db.execute(update, (list(hashes), list(hashes.values())))
            if hashes or changed or self.meta("encoder") != fingerprint:
                bump_generation(db)
            set_meta(db, "encoder", fingerprint)
            db.execute("DELETE FROM encoders WHERE fingerprint <> %s", (fingerprint,))
            drop_orphan_vectors(db)

    def drop_damaged_vectors(self, fingerprint: str) -> int:
        """See ``Store.drop_damaged_vectors``; the type of pgvector has neither NaN nor infinity."""
        of_encoder = "encoder_id = (SELECT id FROM encoders WHERE fingerprint = %s)"
        with self.transaction() as db:
            dropped = db.execute(
                f"DELETE FROM vectors WHERE {of_encoder} AND (vector <#> vector = '-infinity'"
                " OR vector_dims(vector) <> (SELECT dimension FROM encoders WHERE fingerprint = %s))",
                (fingerprint, fingerprint),
            ).rowcount
            if dropped:  # with the last of its vectors, what it is said to be
                db.execute(
                    "DELETE FROM encoders WHERE fingerprint = %s"
                    " AND NOT EXISTS (SELECT 1 FROM vectors WHERE encoder_id = encoders.id)",
                    (fingerprint,),
                )
        return dropped

    def _blocks(self, fingerprint: str, after: int) -> Iterator[tuple[tuple[int, ...], tuple[bytes | None, ...]]]:
        """Row ids, ascending, and vectors as the server sends them."""
        sql = f"{_PASSAGE_VECTORS} WHERE p.id > %s ORDER BY p.id LIMIT %s"
        while block := self.query(sql, (fingerprint, after, _BLOCK)):
            ids, blobs = zip(*block, strict=True)
            yield ids, blobs
            after = ids[-1]

    def _checked(self, rows: Sequence[int], blobs: Sequence[bytes | None], dimension: int) -> Vectors:
        """(N, D) vectors of passages (N,), once each is one of D dimensions.

        Raises:
            StoreCorruptError: one is not.
        """
        size = 4 * (dimension + 1)  # the number of dimensions comes before them
        wrong = next((i for i, blob in enumerate(blobs) if blob is None or len(blob) != size), None)
        if wrong is None:
            every = np.frombuffer(b"".join(blobs), ">f4").reshape(len(blobs), -1)  # type: ignore[arg-type]
            vectors = every[:, 1:].astype(np.float32)
            valid = _have_finite_products(vectors)
            if valid.all():
                return vectors
            wrong, found = int(valid.argmin()), "one with products that are infinite"
        else:
            blob = blobs[wrong]
            found = "none" if blob is None else f"one of {len(blob) / 4 - 1:g} numbers"
        raise StoreCorruptError(
            f"a vector of {dimension} finite numbers of every passage in {self.name}",
            f"{found}, of passage {rows[wrong]}",
            f"compute it again: mixrag index --re-embed --store '{self.name}'",
        )


def _have_finite_products(vectors: Vectors) -> npt.NDArray[np.bool_]:
    with np.errstate(over="ignore", invalid="ignore"):
        finite: npt.NDArray[np.bool_] = np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
    return finite


def _encoder_id(db: Database, encoder: EncoderRecord) -> tuple[int, bool]:
    """Its id, and whether it is new."""
    known = "SELECT id, dimension FROM encoders WHERE fingerprint = %s"
    found = db.execute(known, (encoder.fingerprint,)).fetchone()
    first = found is None
    if first:
        found = db.execute(
            "INSERT INTO encoders (fingerprint, name, dimension) VALUES (%s, %s, %s) RETURNING id, dimension",
            (encoder.fingerprint, encoder.name, encoder.dimension),
        ).fetchone()
    assert found is not None
    encoder_id, stored = found
    if stored != encoder.dimension:
        expected, given = f"vectors of {stored} dimensions", f"{encoder.dimension} dimensions"
        raise EncoderMismatchError(expected, given, "give the changed encoder a new fingerprint")
    return int(encoder_id), first
