"""Opening a store in LanceDB: ``lance:PATH`` in a folder, ``s3://BUCKET/PREFIX`` in object storage."""

from __future__ import annotations

import secrets

from mixrag.corpus.store.lance.bucket import BucketPlace
from mixrag.corpus.store.lance.folder import FolderPlace
from mixrag.corpus.store.lance.log import VERSION, Log
from mixrag.corpus.store.lance.place import Place
from mixrag.corpus.store.lance.schema import passage_schema
from mixrag.corpus.store.lance.store import LanceStore
from mixrag.corpus.store.lance.tables import PASSAGES
from mixrag.corpus.store.location import Location
from mixrag.errors import StoreCorruptError

_OWN = {f"{PASSAGES}.lance"}
"""The table that a store that was being created may have left."""


def open_store(location: Location, *, create: bool, timeout: float) -> LanceStore:
    """The store at a location; see ``Store.open``."""
    place = _place(location)
    log = Log(place)
    store = LanceStore(place, log, timeout)
    if not log.exists():
        _refuse_foreign(place)
        if not create:
            raise place.missing()
        with place.errors():
            place.prepare()
        with store.creating():
            if not log.exists():  # another process may have come first
                _create(store)
    log.latest()
    return store


def has_store(location: Location) -> bool:
    """Whether there are commits of a store. Raises StoreError where it cannot be looked into."""
    return Log(_place(location)).exists()


def _place(location: Location) -> Place:
    return BucketPlace(location) if location.scheme == "s3" else FolderPlace(location)


def _create(store: LanceStore) -> None:
    """An empty store. A kill leaves an empty table, or a whole store."""
    version = store.tables.create(PASSAGES, schema=passage_schema())
    with store.first_transaction() as change:
        change.set(
            version=VERSION,
            store=secrets.token_hex(16),
            generation=0,
            splitter=None,
            encoder=None,
            encoders={},
            dropped={},
            rewritten={},
            next_row=1,
            next_document=1,
            next_table=1,
            passages=version,
        )


def _refuse_foreign(place: Place) -> None:
    """Leave alone what is not mixrag's."""
    with place.errors():
        tables = [name for name in place.entries() if name.endswith(".lance") and name not in _OWN]
    if tables:
        name = place.location.name
        found = f"the table {tables[0].removesuffix('.lance')} of another application"
        raise StoreCorruptError(f"a mixrag store in {name}", found, "name another place with --store")
