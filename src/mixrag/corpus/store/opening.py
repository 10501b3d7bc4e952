"""Opening a store by its location, whatever its backend."""

from __future__ import annotations

import os

from mixrag.corpus.store.backends import backend_of
from mixrag.corpus.store.location import parse_location
from mixrag.corpus.store.protocol import Store


def open_store(location: str | os.PathLike[str], *, create: bool = False, timeout: float = 30.0) -> Store:
    """Open the store of a location; see ``Store.open``."""
    return Store.open(location, create=create, timeout=timeout)


def has_store(location: str | os.PathLike[str]) -> bool:
    """Whether there is a store; nothing is created, and no model or index is read.

    Raises:
        SettingError: a scheme that no backend has.
        StoreError: it cannot be looked for (permissions, network, credentials).
    """
    parsed = parse_location(location)
    return bool(backend_of(parsed).has_store(parsed))
