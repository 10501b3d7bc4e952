"""The store: one SQLite file with documents, passages, their vectors and their words."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.corpus.parsers.result import Notice
from mixrag.corpus.passage import Passage
from mixrag.corpus.store import changes, locks, schema, search, terms
from mixrag.corpus.store.connections import Connections
from mixrag.corpus.store.contents import ContentQueries
from mixrag.corpus.store.sources import MEMORY, composed, display, fallback_title, is_there
from mixrag.corpus.store.stored_vectors import EncoderRecord, VectorQueries
from mixrag.corpus.walk import absolute
from mixrag.errors import StoreError
from mixrag.utils.arrays import Rows


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is in the store."""

    documents: int
    """Distinct contents."""
    passages: int
    sources: int
    """Files, records and documents from memory; several may share one content."""


class Store(search.StoreQueries, terms.TermQueries, VectorQueries, ContentQueries):
    """A store on disk; all methods may be called from several threads, which read without waiting for each other.

    >>> with Store.open(Path("store")) as store:  # doctest: +SKIP
    ...     rows, vectors = store.vectors()
    """

    def __init__(self, directory: Path, connection: sqlite3.Connection, timeout: float) -> None:
        self.directory, self.timeout = directory, timeout
        self._connections = Connections(directory, connection, timeout)

    @classmethod
    def open(cls, directory: Path, *, create: bool = False, timeout: float = 30.0) -> Store:
        """Open the store in a folder; locks are waited for ``timeout`` seconds.

        Raises:
            StoreMissingError: there is none, and ``create`` is false.
            StoreVersionError: a newer mixrag wrote it.
            StoreCorruptError: the file is not a mixrag store, or is damaged.
            StoreBusyError: another process has locked the store for too long.
        """
        directory = Path(directory).absolute()
        return cls(directory, schema.open_database(directory, create=create, timeout=timeout), timeout)

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._connections.close()

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
        with schema.meaningful_errors(self.directory), self._connections.use() as connection:
            return connection.execute(sql, parameters).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let several reads of this thread see one and the same state, whatever others commit meanwhile."""
        with schema.meaningful_errors(self.directory), self._connections.use() as connection:
            nested = connection.in_transaction
            if not nested:
                connection.execute("BEGIN")
            try:
                yield
            finally:
                if not nested:
                    connection.rollback()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is committed, or on any exception nothing.

        Raises:
            StoreBusyError: another process or thread has locked the store for too long.
        """
        with schema.meaningful_errors(self.directory), self._connections.use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock that lets one process or thread at a time change the passages; reading needs no lock.

        It guards what spans transactions (vectors are committed before their passages), and the system
        frees it when the process dies.

        Raises:
            StoreBusyError: another one did not release it for ``timeout`` seconds.
            StoreError: the lock cannot be written, or is something else.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locks.exclusive(self.directory / "index.lock", self.timeout))
            except TimeoutError as error:
                raise schema.busy(self.directory) from error
            except locks.DamagedLockError as error:
                raise StoreError(f"a lock of the store in {error.path}", "something else", error.remedy) from error
            except OSError as error:
                remedy = "check free space and permissions there"
                raise StoreError(f"a usable store in {self.directory}", str(error), remedy) from error
            yield

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

    def passages(self, row_ids: Sequence[int] | Rows) -> list[Passage]:
        """Passages of the row ids, in their order.

        Raises:
            StoreError: a row id that is not (or no longer) in the store.
        """
        wanted = [int(row) for row in row_ids]
        with self.snapshot():
            rows = self.query(
                "SELECT p.id, d.id, d.hash, p.ordinal, p.text, d.title, p.start, p.stop, d.metadata, p.page,"
                " p.place, p.context, d.front_title FROM passages p JOIN documents d ON d.id = p.document_id"
                " WHERE p.id IN (SELECT value FROM json_each(?))",
                (json.dumps(wanted),),
            )
            first = self._first_sources(sorted({row[1] for row in rows}))
        found = {row[0]: _passage(row, *first[row[1]]) for row in rows}
        if lost := [row for row in wanted if row not in found]:
            raise StoreError("passages of this store", f"no row {lost[0]}", "read the changed store again")
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

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of all that is read from it: passages in order of rows, titles, sources."""
        found = hashlib.sha256()
        queries = (
            "SELECT d.id, d.hash, d.title, d.metadata, p.ordinal, p.text_hash, p.page, p.place, p.context,"
            " d.front_title FROM passages p"
            " JOIN documents d ON d.id = p.document_id ORDER BY p.id",
            "SELECT document_id, path, record FROM sources JOIN files ON files.id = file_id"
            " ORDER BY document_id, path, record",
        )
        with self.snapshot(), self._connections.use() as connection:
            for query in queries:
                for row in connection.execute(query):
                    found.update(f"{row!r}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    def documents_digest(self) -> str:
        """SHA-256 (hexadecimal) of the documents, wherever their files are and in whatever order they came.

        The hash of a document is of all that its passages depend on, so that equal digests have equal passages.
        """
        rows = self.query("SELECT hash FROM documents ORDER BY hash")
        return hashlib.sha256("".join(f"{hash_}\n" for (hash_,) in rows).encode()).hexdigest()

    def has_file(self, path: str, sha256: str, splitter: str) -> bool:
        """True where this file is stored with this content, split by the splitter of this name."""
        sql = "SELECT 1 FROM files WHERE path = ? AND sha256 = ? AND splitter = ?"
        return bool(self.query(sql, (path, sha256, splitter)))

    def notices(self, paths: Collection[str]) -> list[tuple[str, Notice]]:
        """What was left out or guessed when these files were read, each with the path of its file."""
        rows = self.query(
            "SELECT path, kind, count, detail FROM notices JOIN files ON files.id = file_id ORDER BY path, kind"
        )
        return [(path, Notice(*notice)) for path, *notice in rows if path in paths]

    def memory_hash(self, id_: str) -> str | None:
        """Hash of the content that is stored of a document from memory; None where there is no such document."""
        sql = (
            "SELECT hash FROM sources JOIN files ON files.id = file_id"
            " JOIN documents ON documents.id = document_id WHERE path = ? AND record = ?"
        )
        rows = self.query(sql, (MEMORY, id_))
        return str(rows[0][0]) if rows else None

    def put(self, sources: Iterable[changes.ParsedFile | changes.SplitDocument]) -> tuple[int, int]:
        """Put files and documents from memory in the place of what was stored of them, all in one transaction.

        To be called while ``writing``. Passages added and removed.
        """
        added = removed = 0
        with self.transaction() as db:
            for source in sources:
                if isinstance(source, changes.ParsedFile):
                    new, old = changes.replace_file(db, source)
                else:
                    new, old = changes.replace_in_memory(db, source)
                added, removed = added + new, removed + old
            if added or removed:
                changes.bump_generation(db)
        return added, removed

    def remove_files(self, file_ids: list[int]) -> changes.Removed:
        """Remove files by their row ids; to be called while ``writing``."""
        with self.transaction() as db:
            return _counted(db, changes.remove_files(db, file_ids))

    def forget_moved(self, paths: Collection[str]) -> list[str]:
        """Drop what is stored of paths that no longer exist where these files hold it: they were moved.

        Documents that both hold stay, with their passages and vectors. To be called while ``writing``.

        Returns:
            The paths, sorted.
        """
        here = json.dumps(list(paths))
        others = (
            "SELECT DISTINCT f.id, f.path FROM files f JOIN sources s ON s.file_id = f.id WHERE s.document_id IN"
            " (SELECT document_id FROM sources WHERE file_id IN (SELECT id FROM files WHERE path IN"
            " (SELECT value FROM json_each(?)))) AND f.path NOT IN (SELECT value FROM json_each(?))"
        )
        equal = (
            "SELECT DISTINCT f.id, f.path FROM files f JOIN files g ON g.sha256 = f.sha256 AND g.path IN"
            " (SELECT value FROM json_each(?)) WHERE f.sha256 != '' AND f.path NOT IN"
            " (SELECT value FROM json_each(?))"
        )
        shared, renamed = (
            {id_: path for id_, path in self.query(sql, (here, here)) if not is_there(path)}
            for sql in (others, equal)
        )
        if shared or renamed:
            with self.transaction() as db:
                changes.drop_sources(db, list(shared), here)
                _counted(db, changes.remove_files(db, list(renamed)))
        return sorted({*shared.values(), *renamed.values()})

    def finish(self, splitter: str) -> None:
        """Note the splitter of an indexing run, and delete the vectors that no passage uses."""
        with self.transaction() as db:
            changes.set_meta(db, "splitter", splitter)
            changes.drop_orphan_vectors(db)

    def remove(self, path: Path) -> changes.Removed:
        """Remove a file, or every file below a folder, from the store (the disk is left alone).

        Raises:
            StoreBusyError: another process is writing to the store.
        """
        with self.writing(), self.transaction() as db:
            where = str(absolute(Path(path)))
            files = self.files_below(where) or self._files_spelled_as(where)
            removed = _counted(db, changes.remove_files(db, [id_ for id_, _ in files]))
            changes.drop_orphan_vectors(db)
        return removed

    def delete(self, ids: Iterable[str]) -> changes.Removed:
        """Remove documents that were added from memory, by their ids; an id that is not there is ignored.

        Raises:
            StoreBusyError: another process is writing to the store.
        """
        with self.writing(), self.transaction() as db:
            removed = _counted(db, changes.remove_from_memory(db, ids))
            changes.drop_orphan_vectors(db)
        return removed

    def remove_document(self, path: str) -> tuple[changes.Removed, list[str]] | None:
        """Remove a document by its ``DocumentRecord.path``, with all of its sources; on disk nothing changes.

        Returns:
            What went, and the paths of the files of which nothing is left in the store; None where there is no
            such document.

        Raises:
            StoreBusyError: another process is writing to the store.
        """
        with self.writing(), self.transaction() as db:
            document = self.document_row(path)  # here, since row ids are given again
            if document is None:
                return None
            removed, paths = changes.remove_document(db, document)
            removed = _counted(db, removed)
            changes.drop_orphan_vectors(db)
        return removed, paths

    def files_below(self, path: str) -> list[tuple[int, str]]:
        """Row id and path of the stored files at an absolute path or below it."""
        prefix = os.path.join(path, "")  # noqa: PTH118 - a string prefix is wanted, "/" included
        sql = "SELECT id, path FROM files WHERE path = ? OR substr(path, 1, ?) = ? ORDER BY path"
        return [(id_, stored) for id_, stored in self.query(sql, (path, len(prefix), prefix))]

    def _files_spelled_as(self, path: str) -> list[tuple[int, str]]:
        """``files_below`` with accents composed or decomposed alike."""
        wanted = composed(path)
        prefix = os.path.join(wanted, "")  # noqa: PTH118
        stored = ((id_, name) for id_, name in self.query("SELECT id, path FROM files ORDER BY path"))
        return [each for each in stored if f"{composed(each[1])}/".startswith(prefix)]


def _counted(db: sqlite3.Connection, removed: changes.Removed) -> changes.Removed:
    """The removal itself, after it has been made known to readers."""
    if removed.passages:
        changes.bump_generation(db)
    return removed


def _passage(row: tuple[Any, ...], path: str, record: str) -> Passage:
    _, _, digest, ordinal, text, title, start, stop, metadata, page, place, context, front_title = row
    return Passage(
        id=f"{digest[:16]}:{ordinal}",
        text=text,
        document=display(path, record),
        title=title or fallback_title(path, record),
        start=start,
        end=stop,
        metadata=json.loads(metadata),
        page=page,
        place=place,
        context=context,
        front_title=front_title,
    )
