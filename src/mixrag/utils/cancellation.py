"""Work that is given up: what waits for another machine on its behalf ends at once.

A ``Cancellation`` applies to what runs inside of it, in this thread; ``contextvars.copy_context`` carries it
to other threads, as ``asyncio.to_thread`` does. Computations in this process do not look at it, and end as before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import ParamSpec, TypeVar

from mixrag.errors import StreamClosedError

P = ParamSpec("P")
T = TypeVar("T")


class Cancellation:
    """Ends the requests to other machines that are made inside of ``run``. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._ends: dict[object, Callable[[], object]] = {}

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """End the requests under way, and refuse those to come; returns at once. More than once is as once."""
        with self._lock:
            self._cancelled = True
            ends = [*self._ends.values()]
            self._ends.clear()
        for end in ends:
            end()

    def run(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """What a function returns whose requests end with ``cancel``; it may be inside of other cancellations.

        Raises:
            StreamClosedError: a request was to be made, or was under way, and ``cancel`` was called.
        """
        before = _ACTIVE.set((*_ACTIVE.get(), self))
        try:
            return work(*args, **options)
        finally:
            _ACTIVE.reset(before)

    @contextmanager
    def _ending(self, end: Callable[[], object]) -> Iterator[None]:
        """Call ``end`` where ``cancel`` is called meanwhile."""
        mark = object()
        with self._lock:
            if self._cancelled:
                raise cancelled()
            self._ends[mark] = end
        try:
            yield
        finally:
            with self._lock:
                self._ends.pop(mark, None)


_ACTIVE: ContextVar[tuple[Cancellation, ...]] = ContextVar("mixrag_cancellations", default=())


def check_cancelled() -> None:
    """Raises ``StreamClosedError`` where one of the cancellations around this was cancelled."""
    if any(each.cancelled for each in _ACTIVE.get()):
        raise cancelled()


@contextmanager
def ending(end: Callable[[], object]) -> Iterator[None]:
    """Call ``end``, from any thread, where one of the cancellations around this is cancelled meanwhile.

    Raises:
        StreamClosedError: one of them was cancelled before; ``end`` is not called.
    """
    with ExitStack() as stack:
        for each in _ACTIVE.get():
            stack.enter_context(each._ending(end))
        yield


async def in_thread(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """As ``asyncio.to_thread``; where the task is cancelled, requests to other machines end."""
    cancellation = Cancellation()
    try:
        return await asyncio.to_thread(cancellation.run, partial(work, *args, **options))
    except asyncio.CancelledError:
        cancellation.cancel()
        raise


def cancelled() -> StreamClosedError:
    """The error of work that was given up."""
    return StreamClosedError("a question that is waited for", "one that was cancelled", "ask again")
