"""Vectors of texts as they come, and the change from one encoder to another."""

from __future__ import annotations

import json
import sqlite3
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from mixrag.corpus.store.norms import grown_norm, norm_key
from mixrag.corpus.store.records import EncoderRecord
from mixrag.corpus.store.sqlite.changes import bump_generation, drop_orphan_vectors, set_meta
from mixrag.corpus.store.sqlite.stored_vectors import is_vector
from mixrag.errors import EncoderMismatchError, StoreError
from mixrag.utils.arrays import Rows, Vectors

_BLOCK = 2048


class EncoderChanges:
    """Changes of vectors and encoder; ``SqliteStore`` supplies the connection."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction."""

    @abstractmethod
    def meta(self, key: str) -> str | None:
        """Value of one setting of the store."""

    def text_hashes(self, row_ids: Sequence[int] | Rows) -> list[bytes]:
        """See ``Store.text_hashes``."""
        wanted = [int(row) for row in row_ids]
        sql = "SELECT id, text_hash FROM passages WHERE id IN (SELECT value FROM json_each(?))"
        found = dict(self.query(sql, (json.dumps(wanted),)))
        if lost := [row for row in wanted if row not in found]:
            raise StoreError("passages of this store", f"no row {lost[0]}", "read the changed store again")
        return [found[row] for row in wanted]

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
            norm = grown_norm(self._number(key), vectors, first=first)
            if norm is not None:
                set_meta(db, key, repr(norm))
            rows = ((encoder_id, digest, v.tobytes()) for digest, v in zip(hashes, vectors, strict=True))
            db.executemany("INSERT INTO vectors (encoder_id, text_hash, vector) VALUES (?, ?, ?)", rows)

    def _number(self, key: str) -> float | None:
        found = self.meta(key)
        return None if found is None else float(found)

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
