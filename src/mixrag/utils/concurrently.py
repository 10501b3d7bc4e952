"""Several pieces of work that wait for another machine, some of them at a time, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from threading import Lock
from typing import TypeVar

from mixrag.utils.cancellation import Cancellation, cancelled

T = TypeVar("T")


def concurrently(work: Iterable[Callable[[], T]], most: int) -> Iterator[T]:
    """What each piece of work returns, in their order.

    Where one fails, or the results are not taken to their end, the requests of the others are cancelled and no
    further work begins; all threads have ended when this ends.

    Args:
        work: functions that may run in several threads at once; taken as there is room for them.
        most: run at a time, or wait for their result to be taken; 1: in the thread of the caller.

    Raises:
        Exception: the first one that was raised, whichever piece of work raised it.
    """
    if most == 1:
        yield from (piece() for piece in work)
        return
    several = _Several()
    pieces, running = iter(work), deque[Future[T]]()
    with ThreadPoolExecutor(most, thread_name_prefix="mixrag-concurrent") as threads:
        try:
            for piece in islice(pieces, most):
                running.append(threads.submit(copy_context().run, several.run, piece))
            while running:
                found = several.result(running[0])
                running.popleft()
                for piece in islice(pieces, 1):
                    running.append(threads.submit(copy_context().run, several.run, piece))
                yield found
        finally:
            several.cancellation.cancel()
            threads.shutdown(wait=False, cancel_futures=True)


class _Several:
    """Pieces of work of which the first that fails cancels the others."""

    def __init__(self) -> None:
        self.cancellation = Cancellation()
        self._lock = Lock()
        self._error: BaseException | None = None

    def run(self, work: Callable[[], T]) -> T:
        """What one piece of work returns."""
        if self.cancellation.cancelled:
            raise cancelled()
        try:
            return self.cancellation.run(work)
        except BaseException as error:
            with self._lock:
                self._error = self._error or error  # later ones may be those of work that was cancelled
            self.cancellation.cancel()
            raise

    def result(self, future: Future[T]) -> T:
        """That of one piece of work, or the first error of all."""
        try:
            return future.result()
        except BaseException:
            if self._error is not None:
                raise self._error from None
            raise
