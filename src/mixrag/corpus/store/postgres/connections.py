"""Connections to one PostgreSQL database."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.pq import TransactionStatus

from mixrag.corpus.store.pool import Pool
from mixrag.corpus.store.postgres.address import Address
from mixrag.corpus.store.postgres.failures import unreachable
from mixrag.corpus.store.postgres.texts import register_texts

Database = psycopg.Connection[tuple[Any, ...]]
"""A connection; transactions are begun by hand."""


class Connections(Pool[Database]):
    """See ``Pool``."""

    def __init__(self, address: Address, first: Database) -> None:
        super().__init__(address.name, first)
        self.address = address

    def connected(self) -> Database:
        """See ``Pool.connected``."""
        return connect(self.address)

    def usable(self, connection: Database) -> bool:
        """See ``Pool.usable``: the server may have been started again since."""
        with suppress(psycopg.OperationalError):
            connection.execute("")
            return True
        return False

    def reusable(self, connection: Database) -> bool:
        """See ``Pool.reusable``."""
        return is_idle(connection)


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
