"""Opening the store of a folder."""

from __future__ import annotations

from pathlib import Path

from mixrag.corpus.store.location import Location
from mixrag.corpus.store.sqlite import schema
from mixrag.corpus.store.sqlite.store import SqliteStore


def open_store(location: Location, *, create: bool, timeout: float) -> SqliteStore:
    """The store in a folder; see ``Store.open``."""
    directory = Path(location.text)
    return SqliteStore(directory, schema.open_database(directory, create=create, timeout=timeout), timeout)


def has_store(location: Location) -> bool:
    """Whether there is a database file in the folder. Raises StoreError where it cannot be looked into."""
    return schema.has_database(Path(location.text))
