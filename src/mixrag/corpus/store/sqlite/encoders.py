"""Vectors of texts as they come, and the change from one encoder to another."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from mixrag.corpus.store.norms import grown_norm, norm_key
from mixrag.corpus.store.records import EncoderRecord
from mixrag.corpus.store.sql import SqlStore
from mixrag.corpus.store.sqlite.changes import bump_generation, drop_orphan_vectors, set_meta
from mixrag.corpus.store.sqlite.stored_vectors import is_vector
from mixrag.errors import EncoderMismatchError
from mixrag.utils.arrays import Vectors

_BLOCK = 2048


class EncoderChanges(SqlStore):
    """Changes of vectors and encoder; ``SqliteStore`` supplies the transactions."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction."""

    def missing_vectors(self, fingerprint: str, hashes: Collection[bytes]) -> set[bytes]:
        """See ``Store.missing_vectors``."""
        sql = (
            "SELECT 1 FROM vectors WHERE text_hash = ?"
            " AND encoder_id = (SELECT id FROM encoders WHERE fingerprint = ?)"
        )
        return {digest for digest in hashes if not self.query(sql, (digest, fingerprint))}

    def add_vectors(self, encoder: EncoderRecord, hashes: Sequence[bytes], vectors: Vectors) -> None:
        """See ``Store.add_vectors``."""
        with self.transaction() as db:
            encoder_id, first = _encoder_id(db, encoder)
            key = norm_key(encoder.fingerprint)
            norm = grown_norm(self.number(key), vectors, first=first)
            if norm is not None:
                set_meta(db, key, repr(norm))
            rows = ((encoder_id, digest, v.tobytes()) for digest, v in zip(hashes, vectors, strict=True))
            db.executemany("INSERT INTO vectors (encoder_id, text_hash, vector) VALUES (?, ?, ?)", rows)

    def claim_encoder(self, fingerprint: str) -> None:
        """See ``Store.claim_encoder``."""
        with self.transaction() as db:
            set_meta(db, "encoder", fingerprint)
            db.execute("DELETE FROM encoders WHERE fingerprint != ?", (fingerprint,))

    def replace_encoder(self, fingerprint: str, hashes: Mapping[int, bytes], *, changed: bool) -> None:
        """See ``Store.replace_encoder``."""
        with self.transaction() as db:
            rows = ((digest, row) for row, digest in hashes.items())
            db.executemany("UPDATE passages SET text_hash = ? WHERE id = ?", rows)
            if hashes or changed or self.meta("encoder") != fingerprint:
                bump_generation(db)
            set_meta(db, "encoder", fingerprint)
            db.execute("DELETE FROM encoders WHERE fingerprint != ?", (fingerprint,))
            drop_orphan_vectors(db)

    def drop_damaged_vectors(self, fingerprint: str) -> int:
        """See ``Store.drop_damaged_vectors``."""
        sql = "SELECT id, dimension FROM encoders WHERE fingerprint = ?"
        return sum(self._drop_damaged(*encoder) for encoder in self.query(sql, (fingerprint,)))

    def _drop_damaged(self, encoder_id: int, dimension: int) -> int:
        dropped, after = 0, -1
        while block := self.query(
            "SELECT id, vector FROM vectors WHERE encoder_id = ? AND id > ? ORDER BY id LIMIT ?",
            (encoder_id, after, _BLOCK),
        ):
            after = block[-1][0]
            damaged = [(id_,) for id_, blob in block if not is_vector(blob, dimension)]
            if damaged:
                with self.transaction() as db:
                    db.executemany("DELETE FROM vectors WHERE id = ?", damaged)
                dropped += len(damaged)
        if dropped:
            with self.transaction() as db:  # with the last of its vectors, what it is said to be
                db.execute(
                    "DELETE FROM encoders WHERE id = ?"
                    " AND NOT EXISTS (SELECT 1 FROM vectors WHERE encoder_id = ?)",
                    (encoder_id, encoder_id),
                )
        return dropped


def _encoder_id(db: sqlite3.Connection, encoder: EncoderRecord) -> tuple[int, bool]:
    """Its row id, and whether it is new."""
    inserted = db.execute(
        "INSERT OR IGNORE INTO encoders (fingerprint, name, dimension) VALUES (?, ?, ?)",
        (encoder.fingerprint, encoder.name, encoder.dimension),
    )
    sql = "SELECT id, dimension FROM encoders WHERE fingerprint = ?"
    encoder_id, stored = db.execute(sql, (encoder.fingerprint,)).fetchone()
    if stored != encoder.dimension:
        expected, found = f"vectors of {stored} dimensions", f"{encoder.dimension} dimensions"
        raise EncoderMismatchError(expected, found, "give the changed encoder a new fingerprint")
    return int(encoder_id), inserted.rowcount == 1
