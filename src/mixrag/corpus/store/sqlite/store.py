"""The store: one SQLite file with documents, passages, their vectors and their words."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.corpus.parsers.result import Notice
from mixrag.corpus.passage import Passage
from mixrag.corpus.store import locks
from mixrag.corpus.store.norms import norm_key
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument
from mixrag.corpus.store.protocol import Store
from mixrag.corpus.store.records import Counts, EncoderRecord, Removed
from mixrag.corpus.store.sources import MEMORY, composed, display, fallback_title, is_there
from mixrag.corpus.store.sqlite import changes, schema
from mixrag.corpus.store.sqlite.connections import Connections
from mixrag.corpus.store.sqlite.contents import ContentQueries
from mixrag.corpus.store.sqlite.encoders import EncoderChanges
from mixrag.corpus.store.sqlite.search import StoreQueries
from mixrag.corpus.store.sqlite.stored_vectors import VectorQueries
from mixrag.corpus.store.sqlite.terms import TermQueries
from mixrag.corpus.walk import absolute
from mixrag.errors import StoreError
from mixrag.utils.arrays import Rows


class SqliteStore(StoreQueries, TermQueries, VectorQueries, ContentQueries, EncoderChanges, Store):
    """A store in a folder; threads read without waiting for each other."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, timeout: float) -> None:
        self.directory, self.timeout = directory, timeout
        self.name = self.location = str(directory)
        self.cache_directory = directory
        self._connections = Connections(directory, connection, timeout)

    def close(self) -> None:
        """See ``Store.close``."""
        self._connections.close()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query.

        Raises:
            StoreError: SQLite could not answer; the subclass says why.
        """
        with schema.meaningful_errors(self.directory), self._connections.use() as connection:
            return connection.execute(sql, parameters).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See ``Store.snapshot``."""
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
        """See ``Store.writing``."""
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
        """See ``Store.generation``."""
        return int(self.meta("generation") or 0)

    @property
    def splitter(self) -> str | None:
        """See ``Store.splitter``."""
        return self.meta("splitter")

    @property
    def part(self) -> str | None:
        """See ``Store.part``."""
        return self.meta("part")

    @property
    def largest_norm(self) -> float | None:
        """See ``Store.largest_norm``."""
        with self.snapshot():
            encoder = self.encoder
            return None if encoder is None else self._number(norm_key(encoder.fingerprint))

    @property
    def encoder_fingerprint(self) -> str | None:
        """See ``Store.encoder_fingerprint``."""
        return self.meta("encoder")

    @property
    def encoder(self) -> EncoderRecord | None:
        """See ``Store.encoder``."""
        sql = "SELECT name, fingerprint, dimension FROM encoders WHERE fingerprint = ?"
        rows = self.query(sql, (self.meta("encoder"),))
        return EncoderRecord(*rows[0]) if rows else None

    def counts(self) -> Counts:
        """See ``Store.counts``."""
        tables = ("documents", "passages", "sources")
        (row,) = self.query("SELECT " + ", ".join(f"(SELECT count(*) FROM {name})" for name in tables))
        return Counts(*row)

    def passages(self, row_ids: Sequence[int] | Rows) -> list[Passage]:
        """See ``Store.passages``."""
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
        """See ``Store.marks``."""
        found = self.query("SELECT id, substr(text_hash, 1, 8) FROM passages ORDER BY id")
        return np.array([row for row, _ in found], np.int64), np.frombuffer(b"".join(m for _, m in found), "<u8")

    @property
    def state(self) -> str:
        """See ``Store.state``."""
        ends = self.query(
            "SELECT id, text_hash FROM passages WHERE id = (SELECT min(id) FROM passages)"
            " OR id = (SELECT max(id) FROM passages) ORDER BY id"
        )
        return hashlib.sha256(repr((self.generation, self.counts(), ends)).encode()).hexdigest()[:16]

    def digest(self) -> str:
        """See ``Store.digest``."""
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
        """See ``Store.documents_digest``."""
        rows = self.query("SELECT hash FROM documents ORDER BY hash")
        return hashlib.sha256("".join(f"{hash_}\n" for (hash_,) in rows).encode()).hexdigest()

    def has_file(self, path: str, sha256: str, splitter: str) -> bool:
        """See ``Store.has_file``."""
        sql = "SELECT 1 FROM files WHERE path = ? AND sha256 = ? AND splitter = ?"
        return bool(self.query(sql, (path, sha256, splitter)))

    def notices(self, paths: Collection[str]) -> list[tuple[str, Notice]]:
        """See ``Store.notices``."""
        rows = self.query(
            "SELECT path, kind, count, detail FROM notices JOIN files ON files.id = file_id ORDER BY path, kind"
        )
        return [(path, Notice(*notice)) for path, *notice in rows if path in paths]

    def memory_hash(self, id_: str) -> str | None:
        """See ``Store.memory_hash``."""
        sql = (
            "SELECT hash FROM sources JOIN files ON files.id = file_id"
            " JOIN documents ON documents.id = document_id WHERE path = ? AND record = ?"
        )
        rows = self.query(sql, (MEMORY, id_))
        return str(rows[0][0]) if rows else None

    def put(self, sources: Iterable[ParsedFile | SplitDocument]) -> tuple[int, int]:
        """See ``Store.put``."""
        added = removed = 0
        with self.transaction() as db:
            for source in sources:
                if isinstance(source, ParsedFile):
                    new, old = changes.replace_file(db, source)
                else:
                    new, old = changes.replace_in_memory(db, source)
                added, removed = added + new, removed + old
            if added or removed:
                changes.bump_generation(db)
        return added, removed

    def remove_files(self, paths: Collection[str]) -> Removed:
        """See ``Store.remove_files``."""
        with self.transaction() as db:
            sql = "SELECT id FROM files WHERE path IN (SELECT value FROM json_each(?))"
            files = [id_ for (id_,) in db.execute(sql, (json.dumps(list(paths)),)).fetchall()]
            return _counted(db, changes.remove_files(db, files))

    def forget_moved(self, paths: Collection[str]) -> list[str]:
        """See ``Store.forget_moved``."""
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

    def claim_part(self, part: str) -> None:
        """See ``Store.claim_part``."""
        with self.transaction() as db:
            changes.set_meta(db, "part", part)

    def finish(self, splitter: str) -> None:
        """See ``Store.finish``."""
        with self.transaction() as db:
            changes.set_meta(db, "splitter", splitter)
            changes.drop_orphan_vectors(db)

    def remove(self, path: Path) -> Removed:
        """See ``Store.remove``."""
        with self.writing(), self.transaction() as db:
            where = str(absolute(Path(path)))
            files = self._files_below(where) or self._files_spelled_as(where)
            removed = _counted(db, changes.remove_files(db, [id_ for id_, _ in files]))
            changes.drop_orphan_vectors(db)
        return removed

    def delete(self, ids: Iterable[str]) -> Removed:
        """See ``Store.delete``."""
        with self.writing(), self.transaction() as db:
            removed = _counted(db, changes.remove_from_memory(db, ids))
            changes.drop_orphan_vectors(db)
        return removed

    def remove_document(self, path: str) -> tuple[Removed, list[str]] | None:
        """See ``Store.remove_document``."""
        with self.writing(), self.transaction() as db:
            document = self.document_row(path)  # here, since row ids are given again
            if document is None:
                return None
            removed, paths = changes.remove_document(db, document)
            removed = _counted(db, removed)
            changes.drop_orphan_vectors(db)
        return removed, paths

    def files_below(self, path: str) -> list[str]:
        """See ``Store.files_below``."""
        return [stored for _, stored in self._files_below(path)]

    def _files_below(self, path: str) -> list[tuple[int, str]]:
        """Row id and path of the stored files at an absolute path or below it."""
        prefix = os.path.join(path, "")  # noqa: PTH118 - a string prefix is wanted, "/" included
        sql = "SELECT id, path FROM files WHERE path = ? OR substr(path, 1, ?) = ? ORDER BY path"
        return [(id_, stored) for id_, stored in self.query(sql, (path, len(prefix), prefix))]

    def _files_spelled_as(self, path: str) -> list[tuple[int, str]]:
        """``_files_below`` with accents composed or decomposed alike."""
        wanted = composed(path)
        prefix = os.path.join(wanted, "")  # noqa: PTH118
        stored = ((id_, name) for id_, name in self.query("SELECT id, path FROM files ORDER BY path"))
        return [each for each in stored if f"{composed(each[1])}/".startswith(prefix)]


def _counted(db: sqlite3.Connection, removed: Removed) -> Removed:
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
