"""Opening a store in PostgreSQL; the packages of the extra are imported here, and not before."""

from __future__ import annotations

from typing import Any, cast

from mixrag.corpus.store.location import Location
from mixrag.corpus.store.protocol import Store
from mixrag.utils.extras import require


def open_store(location: Location, *, create: bool, timeout: float) -> Store:
    """The store in a schema of a database; see ``Store.open``."""
    return cast(Store, _store().opened(location, create=create, timeout=timeout))


def has_store(location: Location) -> bool:
    """Whether the schema has a store's tables. Raises StoreError where the server cannot be asked."""
    return bool(_store().is_there(location))


def _store() -> Any:
    return require("mixrag.corpus.store.postgres.store", "postgres", "stores in PostgreSQL")
