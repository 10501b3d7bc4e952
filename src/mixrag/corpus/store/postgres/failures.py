"""What errors of PostgreSQL mean to the user: one line that names the store, and no password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from mixrag.corpus.store.postgres.address import Address
from mixrag.errors import StoreBusyError, StoreCorruptError, StoreError, StoreFullError

_LOST = ("08", "57P")
_DAMAGED = ("23", "42P01", "42703", "42804", "42883", "3F000", "XX001", "XX002")


@contextmanager
def meaningful_errors(address: Address) -> Iterator[None]:
    """Turn errors of PostgreSQL into StoreErrors that name the store."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(error, address) from error


def translated(error: psycopg.Error, address: Address) -> StoreError:
    """The error to raise in the place of one of PostgreSQL's."""
    code, found = error.sqlstate or "", address.cleaned(error.diag.message_primary or error)
    if code in ("55P03", "40P01"):
        return busy(address)
    if code == "53100":
        remedy = "make room on the disk of the server, then run this again"
        return StoreFullError(f"space for the store {address.name}", found, remedy)
    if code in ("42501", "25006"):
        return not_writable(address, found)
    if code.startswith(_DAMAGED):
        remedy = "index again into another schema (?schema=NAME)"
        return StoreCorruptError(f"a mixrag store in {address.name}", found, remedy)
    if code.startswith(_LOST) or (not code and isinstance(error, psycopg.OperationalError)):
        remedy = "start the server, then run this again: what was reported done is stored"
        return StoreError(f"a connection to {address.name}", found, remedy)
    return StoreError(f"a usable store in {address.name}", found, "see the log of the server")


def unreachable(error: psycopg.Error, address: Address) -> StoreError:
    """Error of a connection that was not made."""
    remedy = "check that the server runs, and host, port, database, user and password (PGPASSWORD or ~/.pgpass)"
    return StoreError(f"a connection to {address.name}", address.cleaned(error), remedy)


def busy(address: Address) -> StoreBusyError:
    """Error of a store that another process or thread is writing to."""
    remedy = "wait until the other mixrag process has ended, then run this again"
    return StoreBusyError(f"the write lock of {address.name}", "another process holding it", remedy)


def not_writable(address: Address, found: str) -> StoreError:
    """Error of a role or server that may only read, or not even that."""
    remedy = f"use a role that has its rights in the schema {address.schema}; the owner can GRANT them"
    return StoreError(f"a role that may do this in {address.name}", found, remedy)
