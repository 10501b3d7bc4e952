"""Connections to one database, each used by one thread at a time: readers never wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.pq import TransactionStatus

from mixrag.corpus.store.postgres.address import Address
from mixrag.corpus.store.postgres.failures import unreachable
from mixrag.corpus.store.postgres.texts import register_texts
from mixrag.errors import StoreError

Database = psycopg.Connection[tuple[Any, ...]]
"""A connection; transactions are begun by hand."""


class Connections:
    """A pool that grows to the number of threads that read at the same time."""

    def __init__(self, address: Address, first: Database) -> None:
        self.address = address
        self._idle, self._closed = [first], False
        self._lock, self._of_thread = threading.Lock(), threading.local()

    @contextmanager
    def use(self) -> Iterator[Database]:
        """This thread's connection until the block ends; inside another such block, the same one.

        Raises:
            StoreError: the store has been closed, or the server cannot be reached.
        """
        current: Database | None = getattr(self._of_thread, "connection", None)
        if current is not None:
            yield current
            return
        connection = self._take()
        self._of_thread.connection = connection
        try:
            yield connection
        finally:
            self._of_thread.connection = None
            self._give_back(connection)

    def close(self) -> None:
        """Close all connections; one that another thread is using, as soon as it is done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> Database:
        while (connection := self._idle_one()) is not None:
            # The server may have been started again since.
            with suppress(psycopg.OperationalError):
                connection.execute("")
                return connection
            connection.close()
        return connect(self.address)

    def _idle_one(self) -> Database | None:
        with self._lock:
            if self._closed:
                raise StoreError(f"an open store in {self.address.name}", "a closed one", "open it again")
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Database) -> None:
        with self._lock:
            if not self._closed and is_idle(connection):
                self._idle.append(connection)
                return
        connection.close()


def is_idle(connection: Database) -> bool:
    """Whether a connection is usable, and in no transaction."""
    return connection.info.transaction_status == TransactionStatus.IDLE


def connect(address: Address) -> Database:
    """A connection whose statements find the tables of the schema and the types of pgvector, where there are any.

    Raises:
        StoreError: the server cannot be reached, or refuses.
    """
    try:
        connection: Database = psycopg.connect(
            **{**address.parameters, "client_encoding": "utf8"},  # type: ignore[arg-type]
            autocommit=True,
        )
    except psycopg.Error as error:
        raise unreachable(error, address) from None
    try:
        register_texts(connection)
        find_names(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


def find_names(connection: Database, address: Address) -> None:
    """Look for tables in the schema, and for types and functions of pgvector where they are."""
    # Compiling plans to machine code takes longer than any query of a store.
    found = connection.execute(
        "SELECT set_config('search_path', quote_ident(%s) || coalesce((SELECT ', ' || quote_ident(nspname)"
        " FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'), ''), false),"
        " set_config('jit', 'off', false), to_regtype('vector') IS NOT NULL,"
        " EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'vector')",
        (address.schema,),
    ).fetchone()
    if found and found[3]:
        register_vector(connection)
