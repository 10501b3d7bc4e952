"""Several pieces of work at once, each with the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TypeVar

from mixrag.utils.cancellation import Cancellation

T = TypeVar("T")


def side_by_side(work: Sequence[Callable[[], T]], seconds: float) -> list[T | Exception]:
    """What each piece of work gives, or the exception that it raised, or ``TimeoutError`` where it is late.

    What is late goes on in its thread, which does not keep the process alive; its result is dropped. Its requests
    to other machines are cancelled: those under way are aborted, and those that wait are not sent.
    """
    cancellation = Cancellation()
    found: list[T | Exception] = [TimeoutError() for _ in work]
    done = threading.Condition()
    finished = [False] * len(work)
    closed = False
    contexts = [copy_context() for _ in work]  # of the question, which may be cancelled as a whole

    def run(place: int) -> None:
        result: T | Exception
        try:
            result = contexts[place].run(cancellation.run, work[place])
        except Exception as error:
            result = error
        with done:
            if not closed:
                found[place] = result
            finished[place] = True
            done.notify_all()

    for place in range(len(work)):
        threading.Thread(target=run, args=(place,), name="mixrag-shard", daemon=True).start()
    end = time.monotonic() + seconds
    try:
        with done:
            while not all(finished) and (left := end - time.monotonic()) > 0:
                done.wait(left)
            closed = True
    finally:  # also where the caller is interrupted
        cancellation.cancel()
    return found
