"""A pool of connections to one database, each used by one thread at a time: readers never wait for each other."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from mixrag.errors import StoreError


class _Closes(Protocol):
    def close(self) -> None: ...


Connection = TypeVar("Connection", bound=_Closes)


class Pool(ABC, Generic[Connection]):
    """It grows to the number of threads that read at the same time."""

    def __init__(self, name: str, first: Connection) -> None:
        self.name = name
        self._idle, self._closed = [first], False
        self._lock, self._of_thread = threading.Lock(), threading.local()

    @abstractmethod
    def connected(self) -> Connection:
        """One more connection.

        Raises:
            StoreError: there is none to be had.
        """

    def usable(self, connection: Connection) -> bool:
        """Whether an idle one can be used still; one that cannot is closed."""
        return True

    def reusable(self, connection: Connection) -> bool:
        """Whether one that was used can be used again; one that cannot is closed."""
        return True

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """This thread's connection until the block ends; inside another such block, the same one.

        Raises:
            StoreError: the store has been closed, or there is no further connection.
        """
        current: Connection | None = getattr(self._of_thread, "connection", None)
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

    def _take(self) -> Connection:
        while (connection := self._idle_one()) is not None:
            if self.usable(connection):
                return connection
            connection.close()
        return self.connected()

    def _idle_one(self) -> Connection | None:
        with self._lock:
            if self._closed:
                raise StoreError(f"an open store in {self.name}", "a closed one", "open it again")
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed and self.reusable(connection):
                self._idle.append(connection)
                return
        connection.close()
