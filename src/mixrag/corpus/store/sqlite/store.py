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

from mixrag.corpus.store import locks
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument
from mixrag.corpus.store.records import Removed
from mixrag.corpus.store.sources import MEMORY, composed, is_there
from mixrag.corpus.store.sql import CONTENTS, SqlStore
from mixrag.corpus.store.sqlite import changes, schema
from mixrag.corpus.store.sqlite.connections import Connections
from mixrag.corpus.store.sqlite.encoders import EncoderChanges
from mixrag.corpus.store.sqlite.look_ups import LookUps
from mixrag.corpus.store.sqlite.stored_vectors import VectorQueries
from mixrag.corpus.walk import absolute
from mixrag.errors import StoreError


class SqliteStore(LookUps, VectorQueries, EncoderChanges, SqlStore):
    """A store in a folder; threads read without waiting for each other."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, timeout: float) -> None:
        self.directory, self.timeout = directory, timeout
        self.name = self.location = str(directory)
        self.cache_directory = directory
        self._connections = Connections(directory, connection, timeout)

    def close(self) -> None:
        """See ``Store.close``."""
        self._connections.close()

    @staticmethod
    def among(column: str) -> str:
        """See ``SqlStore.among``."""
        return f"{column} IN (SELECT value FROM json_each(?))"

    @staticmethod
    def array(numbers: Sequence[int]) -> str:
        """See ``SqlStore.array``."""
        return json.dumps(list(numbers))

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See ``SqlStore.query``."""
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

    @property
    def state(self) -> str:
        """See ``Store.state``; a copy of the files has the same until either is changed."""
        found = dict(self.query("SELECT key, value FROM meta WHERE key IN ('change', 'generation')"))
        # The generation is part of it for the sake of older versions, which count changes without a random number.
        of = (found["change"], found["generation"]) if "change" in found else self._ends()
        return hashlib.sha256(repr(of).encode()).hexdigest()[:16]

    def _ends(self) -> tuple[Any, ...]:
        """What the state is of in a store that an older version made and nothing has changed since."""
        ends = self.query(
            "SELECT id, text_hash FROM passages WHERE id = (SELECT min(id) FROM passages)"
            " OR id = (SELECT max(id) FROM passages) ORDER BY id"
        )
        return self.generation, self.counts(), ends

    def digest(self) -> str:
        """See ``Store.digest``."""
        found = hashlib.sha256()
        with self.snapshot(), self._connections.use() as connection:
            for query in CONTENTS:
                for row in connection.execute(query):
                    found.update(f"{row!r}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    def has_file(self, path: str, sha256: str, splitter: str) -> bool:
        """See ``Store.has_file``."""
        sql = "SELECT 1 FROM files WHERE path = ? AND sha256 = ? AND splitter = ?"
        return bool(self.query(sql, (path, sha256, splitter)))

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
