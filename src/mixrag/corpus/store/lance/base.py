"""What all methods of a Lance store stand on: its state, snapshots, the write lock, commits."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from mixrag.corpus.store.lance.catalogue import Catalogue, Operation, Table
from mixrag.corpus.store.lance.known import KnownHashes
from mixrag.corpus.store.lance.log import Log
from mixrag.corpus.store.lance.place import Check, Place
from mixrag.corpus.store.lance.tables import PASSAGES, Tables
from mixrag.corpus.store.location import cache_of
from mixrag.corpus.store.protocol import Store
from mixrag.errors import StoreError


class Transaction:
    """A draft of the next state, and the operations that make it of the present one."""

    def __init__(self, now: Catalogue) -> None:
        self.now, self.draft, self.operations = now, now.draft(), list[Operation]()

    def do(self, *operation: Any) -> None:
        """One change."""
        self.draft.apply([*operation])
        self.operations.append([*operation])

    def set(self, **values: Any) -> None:
        """Change settings; those that are as they were do not count."""
        old = self.draft.settings
        changed = {key: value for key, value in values.items() if key not in old or old[key] != value}
        if changed:
            self.do("settings", changed)

    def pin(self, table: str, version: int) -> None:
        """Name the version of a table that readers of the new state see."""
        settings = self.draft.settings
        if table == PASSAGES:
            self.set(passages=version)
            return
        encoders = {
            key: [*each[:3], version] if each[2] == table else each for key, each in settings["encoders"].items()
        }
        self.set(encoders=encoders)

    def bump(self) -> None:
        """Count one more change of passages or encoder, which is also given a random number (``state``)."""
        self.set(generation=self.draft.settings["generation"] + 1, change=secrets.token_hex(8))


class LanceBase(Store):
    """State and transactions; see ``LanceStore``."""

    def __init__(self, place: Place, log: Log, timeout: float) -> None:
        location = place.location
        self.location, self.name, self.timeout = location.text, location.name, timeout
        self.cache_directory = cache_of(location)
        self.place, self.log, self.tables = place, log, Tables(place)
        self._of_thread = threading.local()
        self._closed = False
        self._check: Check = lambda: None

    def close(self) -> None:
        """See ``Store.close``."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"an open store {self.name}", "a closed one", "open it again")

    @property
    def now(self) -> Catalogue:
        """The state of this thread's snapshot, or else the latest."""
        self._check_open()
        found: Catalogue | None = getattr(self._of_thread, "catalogue", None)
        return self.latest() if found is None else found

    def latest(self) -> Catalogue:
        """The state as it is now; while this thread has the lock, nobody else changes it."""
        has_lock: bool = getattr(self._of_thread, "has_lock", False)
        return self.log.latest(look=not has_lock)

    @property
    def _known_hashes(self) -> KnownHashes | None:
        """Of which texts this thread knows that they have a vector; of none where it has no lock."""
        found: KnownHashes | None = getattr(self._of_thread, "known_hashes", None)
        return found

    @_known_hashes.setter
    def _known_hashes(self, known: KnownHashes | None) -> None:
        has_lock: bool = getattr(self._of_thread, "has_lock", False)
        self._of_thread.known_hashes = known if has_lock else None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See ``Store.snapshot``."""
        if getattr(self._of_thread, "catalogue", None) is not None:
            yield
            return
        self._of_thread.catalogue = self.now
        try:
            yield
        finally:
            self._of_thread.catalogue = None

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Have the write lock, where there may be no store yet."""
        with self.place.lock(self.timeout) as check:
            self._check = check
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See ``Store.writing``."""
        self._check_open()
        with self.creating():
            if self.place.can_lose_lock:
                self.log.fence(self._check)
            else:
                self.log.latest()
            self._of_thread.has_lock = True
            try:
                yield
            finally:
                self._of_thread.has_lock, self._known_hashes = False, None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Changes of the latest state, which are committed together where they are not none."""
        self._check_open()
        with self._committing(self.latest()) as change:
            yield change

    def first_transaction(self) -> AbstractContextManager[Transaction]:
        """Changes that make a store."""
        return self._committing(Catalogue())

    @contextmanager
    def _committing(self, now: Catalogue) -> Iterator[Transaction]:
        change, before = Transaction(now), getattr(self._of_thread, "catalogue", None)
        self._of_thread.catalogue = now  # what is read meanwhile is what is changed
        try:
            yield change
        finally:
            self._of_thread.catalogue = before
        if change.operations:
            self.log.commit(change.draft, change.operations, self._check)

    def passage_table(self, now: Catalogue) -> Any:
        """The passages of a state."""
        return self.tables.at(PASSAGES, now.settings["passages"])

    def vector_table(self, now: Catalogue) -> tuple[Table, Any] | None:
        """The vectors of a state's encoder, and its table; None where there are none."""
        found = now.table(now.settings["encoder"])
        return None if found is None else (found, self.tables.at(found.table, found.version))
