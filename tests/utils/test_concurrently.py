"""Work in several threads: in order, bounded, and ended by the first error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from mixrag.utils.cancellation import Cancellation, check_cancelled, ending
from mixrag.utils.concurrently import concurrently

SECONDS = 20


def no_thread_is_left() -> bool:
    return not any(each.name.startswith("mixrag-concurrent") for each in threading.enumerate())


def test_results_come_in_order_whichever_ends_first() -> None:
    last = threading.Event()

    def work(place: int) -> int:
        if place == 0:
            assert last.wait(SECONDS)
        elif place == 3:
            last.set()
        return place

    assert list(concurrently((partial(work, place) for place in range(20)), 4)) == list(range(20))
    assert no_thread_is_left()


def test_no_more_is_begun_than_may_wait() -> None:
    taken = []

    def pieces() -> Iterator[Callable[[], int]]:
        for place in range(20):
            taken.append(place)
            yield partial(int, place)

    found = concurrently(pieces(), 3)
    assert next(found) == 0
    assert len(taken) == 4
    found.close()  # type: ignore[attr-defined]
    assert len(taken) == 4
    assert no_thread_is_left()


def test_one_at_a_time_runs_in_the_thread_of_the_caller() -> None:
    assert [*concurrently([threading.current_thread] * 2, 1)] == [threading.current_thread()] * 2


def waiting(ended: list[int], place: int) -> None:
    """Waits as a request does, until it is cancelled."""
    over = threading.Event()
    with ending(over.set):
        assert over.wait(SECONDS)
    ended.append(place)
    check_cancelled()


def test_the_first_error_ends_the_others_and_is_the_one_that_is_raised() -> None:
    ended, begun = list[int](), list[int]()

    def work(place: int) -> None:
        begun.append(place)
        if place == 2:
            raise ValueError("of the third")
        waiting(ended, place)

    with pytest.raises(ValueError, match="of the third"):
        list(concurrently((partial(work, place) for place in range(20)), 3))
    assert set(ended) <= {0, 1}
    assert set(begun) <= {0, 1, 2}
    assert no_thread_is_left()


def test_a_caller_that_takes_no_more_ends_them() -> None:
    ended = list[int]()
    found = concurrently([partial(int, 7), *(partial(waiting, ended, place) for place in range(2))], 3)
    assert next(found) == 7
    found.close()  # type: ignore[attr-defined]
    assert no_thread_is_left()


def test_the_cancellation_of_the_caller_ends_them() -> None:
    ended, outer, begun = list[int](), Cancellation(), threading.Barrier(3)

    def work(place: int) -> None:
        begun.wait(SECONDS)
        waiting(ended, place)

    threading.Thread(target=lambda: (begun.wait(SECONDS), outer.cancel()), daemon=True).start()
    with pytest.raises(RuntimeError, match="cancelled"):
        outer.run(lambda: list(concurrently([partial(work, place) for place in range(2)], 2)))
    assert no_thread_is_left()
