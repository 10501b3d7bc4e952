"""SQLite connections to one store, each used by one thread at a time: readers never wait for each other."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixrag.corpus.store.sqlite import schema
from mixrag.errors import StoreError


class Connections:
    """A pool that grows to the number of threads that read at the same time."""

    def __init__(self, directory: Path, first: sqlite3.Connection, timeout: float) -> None:
        self.directory, self.timeout = directory, timeout
        self._idle, self._closed = [first], False
        self._lock, self._of_thread = threading.Lock(), threading.local()

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection until the block ends; inside another such block, the same one.

        Raises:
            StoreError: the store has been closed, or cannot be opened once more.
        """
        current: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
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

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreError(f"an open store in {self.directory}", "a closed one", "open it again")
            if self._idle:
                return self._idle.pop()
        return schema.connect(self.directory / schema.FILE_NAME, self.timeout)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()
