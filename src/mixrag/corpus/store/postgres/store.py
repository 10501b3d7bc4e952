"""The store: one schema of a PostgreSQL database with documents, passages, their vectors and their words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from mixrag.corpus.store.location import Location, cache_of
from mixrag.corpus.store.postgres import changes, schema
from mixrag.corpus.store.postgres.address import Address, address_of
from mixrag.corpus.store.postgres.changes import key_of
from mixrag.corpus.store.postgres.connections import Connections, Database, connect, is_idle
from mixrag.corpus.store.postgres.failures import busy, meaningful_errors, not_writable
from mixrag.corpus.store.postgres.filters import FilterQueries
from mixrag.corpus.store.postgres.look_ups import LookUps
from mixrag.corpus.store.postgres.nearest import NearestQueries, graph_type
from mixrag.corpus.store.postgres.stored_vectors import VectorQueries
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument
from mixrag.corpus.store.records import Removed
from mixrag.corpus.store.sources import MEMORY, composed
from mixrag.corpus.store.sources import is_there as _is_on_disk
from mixrag.corpus.store.sql import CONTENTS, SqlStore
from mixrag.corpus.walk import absolute

_LONGEST_WAIT = 2**31 - 1
"""Milliseconds."""


def opened(location: Location, *, create: bool, timeout: float) -> PostgresStore:
    """The store in a schema of a database; see ``Store.open``."""
    address = address_of(location)
    connection = connect(address)
    try:
        with meaningful_errors(address):
            schema.prepare(connection, address, create=create)
    except BaseException:
        connection.close()
        raise
    return PostgresStore(location, address, connection, timeout)


def is_there(location: Location) -> bool:
    """Whether the schema has a store's tables. Raises StoreError where the server cannot be asked."""
    address = address_of(location)
    with connect(address) as connection, meaningful_errors(address):
        return schema.has_tables(connection, address)


class PostgresStore(LookUps, FilterQueries, VectorQueries, NearestQueries, SqlStore):
    """A store in a schema; threads read without waiting for each other, each on a connection of its own."""

    def __init__(self, location: Location, address: Address, connection: Database, timeout: float) -> None:
        self.location, self.name, self.timeout = location.text, location.name, timeout
        self.cache_directory = cache_of(location)
        self.address = address
        self._connections = Connections(address, connection)
        self._writer: Database | None = None

    def close(self) -> None:
        """See ``Store.close``."""
        self._connections.close()

    @property
    def own_search(self) -> str | None:  # type: ignore[override]
        """See ``Store.own_search``."""
        encoder = self.encoder
        kind = "vector" if encoder is None else graph_type(encoder.dimension)
        by_graph = {"vector": "pgvector HNSW", "halfvec": "pgvector HNSW of 16-bit numbers"}
        return by_graph.get(kind or "", "a scan of all vectors in PostgreSQL")

    @staticmethod
    def among(column: str) -> str:
        """See ``SqlStore.among``."""
        return f"{column} = ANY(?::bigint[])"

    @staticmethod
    def array(numbers: Sequence[int]) -> list[int]:
        """See ``SqlStore.array``."""
        return list(numbers)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See ``SqlStore.query``; queries of this dialect alone have ``%s``."""
        with meaningful_errors(self.address), self._connections.use() as connection:
            return connection.execute(sql.replace("?", "%s").encode(), parameters, binary=True).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See ``Store.snapshot``."""
        with meaningful_errors(self.address), self._connections.use() as connection:
            nested = not is_idle(connection)
            if not nested:
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield
            finally:
                if not nested:
                    _roll_back(connection)

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """One transaction: all of it is committed, or on any exception nothing.

        It runs on the connection that has the writer's lock: with the connection both are gone. In a thread
        without the lock it takes the lock for itself.
        """
        with meaningful_errors(self.address), self._connections.use() as connection:
            connection.execute("BEGIN")
            try:
                if connection is not self._writer:
                    self._wait_at_most(connection, "pg_advisory_xact_lock")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See ``Store.writing``."""
        with self._connections.use() as connection:
            with meaningful_errors(self.address):
                if connection is self._writer:
                    raise busy(self.address)
                self._check_writable(connection)
                _expect_long_work(connection)
                self._wait_at_most(connection, "pg_advisory_lock")
            self._writer = connection
            try:
                yield
            finally:
                self._writer = None
                with suppress(psycopg.Error):
                    connection.execute("SELECT pg_advisory_unlock(%s)", (self.address.lock,))

    def _wait_at_most(self, connection: Database, function: str) -> None:
        """Take the writer's lock. Raises LockNotAvailable after ``timeout`` seconds."""
        milliseconds = int(min(max(1.0, 1000 * self.timeout), _LONGEST_WAIT))
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{milliseconds}ms",))
        try:
            connection.execute(f"SELECT {function}(%s)".encode(), (self.address.lock,))
        finally:
            with suppress(psycopg.Error):  # a transaction that failed brings it back as well
                connection.execute("SET lock_timeout = 0")

    def _check_writable(self, connection: Database) -> None:
        found = connection.execute(
            "SELECT current_user::text, has_table_privilege('passages', 'INSERT'), pg_is_in_recovery(),"
            " current_setting('transaction_read_only') = 'on'"
        ).fetchone()
        user, may_insert, is_copy, is_read_only = found or ("", False, False, False)
        if is_copy or is_read_only:
            raise not_writable(self.address, "a server that can only be read from")
        if not may_insert:
            raise not_writable(self.address, f"{user}, who may only read")

    @property
    def state(self) -> str:
        """See ``Store.state``."""
        found = self.query(
            "SELECT (SELECT value FROM meta WHERE key = 'id'), (SELECT value FROM meta WHERE key = 'generation'),"
            " (SELECT min(id) FROM passages), (SELECT max(id) FROM passages),"
            " (SELECT text_hash FROM passages ORDER BY id DESC LIMIT 1),"
            " (SELECT value FROM meta WHERE key = 'change')"
        )
        *older, change = found[0]
        of = [tuple(older)] if change is None else found  # None: an older version made the last change
        return hashlib.sha256(repr(of).encode()).hexdigest()[:16]

    def digest(self) -> str:
        """See ``Store.digest``."""
        found = hashlib.sha256()
        with self.snapshot(), self._connections.use() as connection:
            for query in CONTENTS:
                with connection.cursor(name="digest", binary=True) as cursor:
                    cursor.itersize = 4096
                    for row in cursor.execute(query.encode()):
                        found.update(f"{row!r}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    def has_file(self, path: str, sha256: str, splitter: str) -> bool:
        """See ``Store.has_file``."""
        sql = "SELECT 1 FROM files WHERE key = %s AND sha256 = %s AND splitter = %s"
        return bool(self.query(sql, (key_of(path), sha256, splitter)))

    def memory_hash(self, id_: str) -> str | None:
        """See ``Store.memory_hash``."""
        sql = (
            "SELECT hash FROM files JOIN sources ON files.id = file_id"
            " JOIN documents ON documents.id = document_id WHERE files.key = %s AND sources.key = %s"
        )
        rows = self.query(sql, (key_of(MEMORY), key_of(id_)))
        return str(rows[0][0]) if rows else None

    def put(self, sources: Iterable[ParsedFile | SplitDocument]) -> tuple[int, int]:
        """See ``Store.put``."""
        with self.transaction() as db:
            added, removed = changes.put(db, sources)
            if added or removed:
                changes.bump_generation(db)
        return added, removed

    def remove_files(self, paths: Collection[str]) -> Removed:
        """See ``Store.remove_files``."""
        with self.transaction() as db:
            return _noted(db, changes.remove_files(db, self._file_ids(paths)), orphans=False)

    def forget_moved(self, paths: Collection[str]) -> list[str]:
        """See ``Store.forget_moved``."""
        here = self._file_ids(paths)
        shared_with = (
            "SELECT DISTINCT f.id, f.path FROM files f JOIN sources s ON s.file_id = f.id WHERE s.document_id IN"
            " (SELECT document_id FROM sources WHERE file_id = ANY(%s::bigint[])) AND f.id <> ALL(%s::bigint[])"
        )
        equal_to = (
            "SELECT DISTINCT f.id, f.path FROM files f JOIN files g ON g.sha256 = f.sha256"
            " WHERE g.id = ANY(%s::bigint[]) AND f.sha256 <> '' AND f.id <> ALL(%s::bigint[])"
        )
        shared, renamed = (
            {id_: path for id_, path in self.query(sql, (here, here)) if not _is_on_disk(path)}
            for sql in (shared_with, equal_to)
        )
        if shared or renamed:
            with self.transaction() as db:
                changes.drop_shared(db, list(shared), here)
                _noted(db, changes.remove_files(db, list(renamed)), orphans=False)
        return sorted({*shared.values(), *renamed.values()})

    def claim_part(self, part: str) -> None:
        """See ``Store.claim_part``."""
        with self.transaction() as db:
            changes.set_meta(db, "part", part)

    def finish(self, splitter: str) -> None:
        """See ``Store.finish``; with many vectors, the index that ``nearest`` searches is made here."""
        with self.transaction() as db:
            changes.set_meta(db, "splitter", splitter)
            changes.drop_orphan_vectors(db)
        with meaningful_errors(self.address):
            self.index_vectors()

    def remove(self, path: Path) -> Removed:
        """See ``Store.remove``."""
        with self.writing(), self.transaction() as db:
            where = str(absolute(Path(path)))
            paths = self.files_below(where) or self._files_spelled_as(where)
            return _noted(db, changes.remove_files(db, self._file_ids(paths)), orphans=True)

    def delete(self, ids: Iterable[str]) -> Removed:
        """See ``Store.delete``."""
        with self.writing(), self.transaction() as db:
            return _noted(db, changes.remove_from_memory(db, list(ids)), orphans=True)

    def remove_document(self, path: str) -> tuple[Removed, list[str]] | None:
        """See ``Store.remove_document``."""
        with self.writing(), self.transaction() as db:
            document = self.document_row(path)
            if document is None:
                return None
            removed, paths = changes.remove_document(db, document)
            return _noted(db, removed, orphans=True), paths

    def files_below(self, path: str) -> list[str]:
        """See ``Store.files_below``."""
        prefix = os.path.join(path, "")  # noqa: PTH118 - a string prefix is wanted, "/" included
        sql = "SELECT path FROM files WHERE key = %s OR starts_with(path, %s) ORDER BY path"
        return [stored for (stored,) in self.query(sql, (key_of(path), prefix))]

    def _files_spelled_as(self, path: str) -> list[str]:
        """``files_below`` with accents composed or decomposed alike."""
        prefix = os.path.join(composed(path), "")  # noqa: PTH118
        stored = (name for (name,) in self.query("SELECT path FROM files ORDER BY path"))
        return [name for name in stored if f"{composed(name)}/".startswith(prefix)]

    def _file_ids(self, paths: Iterable[str]) -> list[int]:
        keys = [key_of(path) for path in paths]
        return [id_ for (id_,) in self.query("SELECT id FROM files WHERE key = ANY(%s)", (keys,))]


def _expect_long_work(connection: Database) -> None:
    """No limits of the role on a writer, who waits for an encoder or an index; but notice when it is gone."""
    connection.execute("SET statement_timeout = 0")
    connection.execute("SET idle_session_timeout = 0")
    with suppress(psycopg.Error):  # not every system has it
        # Without it a query of a process that was killed goes on to its end, and the lock with it.
        connection.execute("SET client_connection_check_interval = '2s'")


def _roll_back(connection: Database) -> None:
    """End a transaction; a connection on which that fails is of no use any more."""
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


def _noted(db: Database, removed: tuple[Removed, list[bytes]], *, orphans: bool) -> Removed:
    """The removal itself, after readers know of it; on request the vectors that it leaves go too."""
    counted, hashes = removed
    if counted.passages:
        changes.bump_generation(db)
    if orphans:
        changes.drop_orphan_vectors(db, hashes)
    return counted
