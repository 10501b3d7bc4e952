"""The store: one SQLite file that holds documents, passages, vectors and the lexical index."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.corpus.parsers.result import fallback_title
from mixrag.corpus.passage import Passage
from mixrag.corpus.store import changes, schema, search
from mixrag.corpus.walk import absolute
from mixrag.errors import StoreError
from mixrag.utils.arrays import Rows, Vectors


@dataclass(frozen=True, slots=True)
class Counts:
    """How much the store holds."""

    documents: int
    """Distinct contents."""
    passages: int
    sources: int
    """Files and records; several may share one document."""


@dataclass(frozen=True, slots=True)
class EncoderRecord:
    """The encoder whose vectors the store holds."""

    name: str
    fingerprint: str
    dimension: int


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """One line of the list of documents."""

    path: str
    """First source in sorted order; '#record' is appended for a record."""
    title: str
    passages: int
    sources: int


class Store(search.StoreQueries):
    """A store on disk; all methods may be called from several threads.

    >>> with Store.open(Path("store")) as store:  # doctest: +SKIP
    ...     rows, vectors = store.vectors()
    """

    def __init__(self, directory: Path, connection: sqlite3.Connection, timeout: float) -> None:
        self.directory, self.timeout = directory, timeout
        self._connection, self._lock = connection, threading.RLock()

    @classmethod
    def open(cls, directory: Path, *, create: bool = False, timeout: float = 30.0) -> Store:
        """Open the store in a folder; locks are waited for ``timeout`` seconds.

        Raises:
            StoreMissingError: there is none, and ``create`` is false.
            StoreVersionError: a newer mixrag wrote it.
            StoreCorruptError: the file is no mixrag store, or is damaged.
            StoreBusyError: another process held the lock too long.
        """
        directory = Path(directory).absolute()
        return cls(directory, schema.open_database(directory, create=create, timeout=timeout), timeout)

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query.

        Raises:
            StoreError: SQLite could not answer; the subclass says why.
        """
        with self._lock, schema.meaningful_errors(self.directory):
            return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let several reads see one and the same state, whatever other processes commit meanwhile."""
        with self._lock, schema.meaningful_errors(self.directory):
            nested = self._connection.in_transaction
            if not nested:
                self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if not nested:
                    self._connection.rollback()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is committed, or on any exception nothing.

        Raises:
            StoreBusyError: another process held the lock too long.
        """
        with self._lock, schema.meaningful_errors(self.directory):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock that lets one process at a time change the passages; readers go on.

        It guards what spans transactions (vectors are committed before their passages), and the system
        frees it when the process dies.

        Raises:
            StoreBusyError: another process held it for ``timeout`` seconds.
        """
        with schema.meaningful_errors(self.directory):
            path = self.directory / "index.lock"
            lock = sqlite3.connect(path, timeout=self.timeout, isolation_level=None, check_same_thread=False)
        try:
            with schema.meaningful_errors(self.directory):
                lock.execute("BEGIN EXCLUSIVE")
            yield
        finally:
            lock.close()

    def meta(self, key: str) -> str | None:
        """Value of one setting of the store, or None."""
        rows = self.query("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    @property
    def generation(self) -> int:
        """Number that grows with every change of the passages or of the encoder."""
        return int(self.meta("generation") or 0)

    @property
    def splitter(self) -> str | None:
        """Name of the splitter of the last indexing run."""
        return self.meta("splitter")

    @property
    def encoder(self) -> EncoderRecord | None:
        """Encoder of the vectors, or None while there are none."""
        sql = "SELECT name, fingerprint, dimension FROM encoders WHERE fingerprint = ?"
        rows = self.query(sql, (self.meta("encoder"),))
        return EncoderRecord(*rows[0]) if rows else None

    def counts(self) -> Counts:
        """Numbers of documents, passages and sources."""
        tables = ("documents", "passages", "sources")
        (row,) = self.query("SELECT " + ", ".join(f"(SELECT count(*) FROM {name})" for name in tables))
        return Counts(*row)

    def documents(self) -> list[DocumentRecord]:
        """All documents, sorted by path."""
        with self.snapshot():
            first = self._first_sources(None)
            rows = self.query(
                "SELECT id, title, (SELECT count(*) FROM passages WHERE document_id = documents.id),"
                " (SELECT count(*) FROM sources WHERE document_id = documents.id) FROM documents"
            )
        records = (
            DocumentRecord(display(*first[id_]), title or fallback_title(*first[id_]), passages, sources)
            for id_, title, passages, sources in rows
        )
        return sorted(records, key=lambda record: record.path)

    def passages(self, row_ids: Sequence[int] | Rows) -> list[Passage]:
        """Passages of the row ids, in their order.

        Raises:
            StoreError: a row id that is not (or no longer) in the store.
        """
        wanted = [int(row) for row in row_ids]
        with self.snapshot():
            rows = self.query(
                "SELECT p.id, d.id, d.hash, p.ordinal, p.text, d.title, p.start, p.stop, d.metadata"
                " FROM passages p JOIN documents d ON d.id = p.document_id"
                " WHERE p.id IN (SELECT value FROM json_each(?))",
                (json.dumps(wanted),),
            )
            first = self._first_sources(sorted({row[1] for row in rows}))
        found = {row[0]: _passage(row, *first[row[1]]) for row in rows}
        if lost := [row for row in wanted if row not in found]:
            raise StoreError("passages of this store", f"no row {lost[0]}", "read the changed store anew")
        return [found[row] for row in wanted]

    def marks(self) -> tuple[Rows, npt.NDArray[np.uint64]]:
        """Row ids (M,) of all passages, ascending, and of each the first eight bytes of its text's hash."""
        found = self.query("SELECT id, substr(text_hash, 1, 8) FROM passages ORDER BY id")
        return np.array([row for row, _ in found], np.int64), np.frombuffer(b"".join(m for _, m in found), "<u8")

    @property
    def state(self) -> str:
        """Hexadecimal; another one after every change of passages or encoder, and in another store."""
        ends = self.query(
            "SELECT id, text_hash FROM passages WHERE id = (SELECT min(id) FROM passages)"
            " OR id = (SELECT max(id) FROM passages) ORDER BY id"
        )
        return hashlib.sha256(repr((self.generation, self.counts(), ends)).encode()).hexdigest()[:16]

    def vectors(self, after: int = -1) -> tuple[Rows, Vectors]:
        """Row ids (M,) in ascending order and vectors (M, D) of all passages with a row id above ``after``."""
        with self.snapshot():
            encoder = self.encoder
            if encoder is None:
                return np.empty(0, np.int64), np.empty((0, 0), np.float32)
            chosen = (encoder.fingerprint, after)
            (count,) = self.query(f"SELECT count(*) {_PASSAGE_VECTORS}", chosen)[0]
            rows, vectors = np.empty(count, np.int64), np.empty((count, encoder.dimension), np.float32)
            cursor = self._connection.execute(f"SELECT p.id, v.vector {_PASSAGE_VECTORS} ORDER BY p.id", chosen)
            filled = 0
            while block := cursor.fetchmany(4096):
                ids, blobs = zip(*block, strict=True)
                stop = filled + len(block)
                rows[filled:stop] = ids
                vectors[filled:stop] = np.frombuffer(b"".join(blobs), "<f4").reshape(len(block), -1)
                filled = stop
        return rows, vectors

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of all that is read from it: passages in order of rows, titles, sources."""
        found = hashlib.sha256()
        queries = (
            "SELECT d.id, d.hash, d.title, d.metadata, p.ordinal, p.text_hash FROM passages p"
            " JOIN documents d ON d.id = p.document_id ORDER BY p.id",
            "SELECT document_id, path, record FROM sources JOIN files ON files.id = file_id"
            " ORDER BY document_id, path, record",
        )
        with self.snapshot():
            for query in queries:
                for row in self._connection.execute(query):
                    found.update(f"{row!r}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    def remove(self, path: Path) -> changes.Removed:
        """Remove a file, or every file below a folder, from the store (the disk is left alone).

        Raises:
            StoreBusyError: another process is writing to the store.
        """
        with self.writing(), self.transaction() as db:
            files = self.files_below(str(absolute(Path(path))))
            removed = changes.remove_files(db, [id_ for id_, _ in files])
            if removed.passages:
                changes.bump_generation(db)
            changes.drop_orphan_vectors(db)
        return removed

    def files_below(self, path: str) -> list[tuple[int, str]]:
        """Row id and path of the stored files at an absolute path or below it."""
        prefix = os.path.join(path, "")  # noqa: PTH118 - a string prefix is wanted, "/" included
        sql = "SELECT id, path FROM files WHERE path = ? OR substr(path, 1, ?) = ? ORDER BY path"
        return [(id_, stored) for id_, stored in self.query(sql, (path, len(prefix), prefix))]

    def _first_sources(self, document_ids: list[int] | None) -> dict[int, tuple[str, str]]:
        """Path and record of the first source of each document (of all documents for None)."""
        chosen = "" if document_ids is None else "WHERE document_id IN (SELECT value FROM json_each(?))"
        rows = self.query(
            f"SELECT document_id, path, record FROM sources JOIN files ON files.id = file_id {chosen}"
            " ORDER BY path DESC, record DESC",
            () if document_ids is None else (json.dumps(document_ids),),
        )
        return {id_: (path, record) for id_, path, record in rows}


_PASSAGE_VECTORS = (
    "FROM passages p JOIN encoders e ON e.fingerprint = ?"
    " JOIN vectors v ON v.encoder_id = e.id AND v.text_hash = p.text_hash"
    " WHERE p.id > ?"
)


def display(path: str, record: str) -> str:
    """How a source is shown: its path, and '#record' for a record."""
    return f"{path}#{record}" if record else path


def _passage(row: tuple[Any, ...], path: str, record: str) -> Passage:
    _, _, digest, ordinal, text, title, start, stop, metadata = row
    return Passage(
        id=f"{digest[:16]}:{ordinal}",
        text=text,
        document=display(path, record),
        title=title or fallback_title(path, record),
        start=start,
        end=stop,
        metadata=json.loads(metadata),
    )
