"""Changes of stores: one at a time for each store, in a thread of its own, in the order of their requests.

Indexing takes as long as it takes, and would fill the threads that answer questions; so it has its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from mixrag.errors import StoreBusyError
from mixrag.server.errors import BusyError

T = TypeVar("T")


@dataclass(frozen=True)
class WriterLimits:
    """Of changes of one store, and of the files that are sent."""

    waiting: int = 16
    """Changes beyond the one under way; further ones are refused."""
    seconds: float = 120.0
    """Longest wait for the changes before."""
    file_bytes: int = 25 * 2**20
    """Largest file."""
    files: int = 100
    """Files of one request."""


class Writers:
    """The changes of all stores that are served."""

    def __init__(self, limits: WriterLimits = WriterLimits()) -> None:
        self.limits = limits
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._waiting: dict[str, int] = {}
        self._running: set[Future[Any]] = set()

    async def run(self, store: str, change: Callable[[], T], dropped: Callable[[], object] = lambda: None) -> T:
        """What a change of a store returns; once it has begun it is carried out, whatever becomes of its client.

        Args:
            store: its name.
            change: runs in the thread of this store.
            dropped: called where the change will not be begun.

        Raises:
            BusyError: too many are waiting.
            StoreBusyError: those before it took too long.
        """
        if self._waiting.get(store, 0) >= self.limits.waiting:
            dropped()
            expected = f"at most {self.limits.waiting} changes of a store at once"
            raise BusyError(expected, "more", "send it again in some seconds", seconds=5)
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def begin() -> T:
            loop.call_soon_threadsafe(begun.set)
            return change()

        threads = self._threads.setdefault(
            store, ThreadPoolExecutor(1, thread_name_prefix=f"mixrag-write-{store}")
        )
        future = threads.submit(begin)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        self._waiting[store] = self._waiting.get(store, 0) + 1
        try:
            await asyncio.wait_for(begun.wait(), self.limits.seconds)
        except TimeoutError as error:
            if future.cancel():  # else it has begun at this very moment
                dropped()
                expected = f"the changes of {store} before this one to end within {self.limits.seconds:g} seconds"
                raise StoreBusyError(expected, "one under way", "send it again later") from error
        except asyncio.CancelledError:
            if future.cancel():
                dropped()
            raise
        finally:
            self._waiting[store] -= 1
        return await asyncio.shield(asyncio.wrap_future(future))

    def close(self) -> None:
        """Carry out the changes that were accepted, and take no more."""
        for each in self._threads.values():
            each.shutdown(wait=True)
