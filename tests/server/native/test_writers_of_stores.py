"""Changes of stores take turns, in order, and are carried out once they have begun."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from mixrag.errors import StoreBusyError
from mixrag.server.errors import BusyError
from mixrag.server.writers import WriterLimits, Writers


class Gate:
    """A change that waits until it is let through."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self.done = False

    def __call__(self) -> str:
        self.begun.set()
        self.open.wait()
        self.done = True
        return "done"


async def under_way(writers: Writers, gate: Gate, store: str = "a") -> asyncio.Task[str]:
    """A change that has begun, and waits."""
    task = asyncio.create_task(writers.run(store, gate))
    while not gate.begun.is_set():
        await asyncio.sleep(0.001)
    return task


def test_one_at_a_time_for_each_store_in_their_order() -> None:
    async def work() -> None:
        writers, gate, order = Writers(), Gate(), list[int]()
        first = await under_way(writers, gate)

        def noting(n: int) -> Callable[[], None]:
            return lambda: order.append(n)

        others = [asyncio.create_task(writers.run("a", noting(n))) for n in range(5)]
        assert await writers.run("b", lambda: "at once") == "at once"
        assert order == []
        gate.open.set()
        assert await first == "done"
        await asyncio.gather(*others)
        assert order == [0, 1, 2, 3, 4]
        writers.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("limits", "error"), [(WriterLimits(waiting=0), BusyError), (WriterLimits(seconds=0.01), StoreBusyError)]
)
def test_a_change_that_cannot_begin_is_dropped(limits: WriterLimits, error: type[Exception]) -> None:
    async def work() -> None:
        writers, gate, dropped = Writers(WriterLimits()), Gate(), list[str]()
        first = await under_way(writers, gate)
        writers.limits = limits
        with pytest.raises(error):
            await writers.run("a", lambda: "never", lambda: dropped.append("dropped"))
        assert dropped == ["dropped"]
        gate.open.set()
        await first
        writers.limits = WriterLimits()
        assert await writers.run("a", lambda: "again") == "again"
        writers.close()

    asyncio.run(work())


def test_a_client_that_leaves_while_it_waits_drops_its_change_but_none_that_has_begun() -> None:
    async def work() -> None:
        writers, gate, dropped = Writers(), Gate(), list[str]()
        first = await under_way(writers, gate)
        second = asyncio.create_task(writers.run("a", lambda: "never", lambda: dropped.append("second")))
        await asyncio.sleep(0.01)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert dropped == ["second"] and not gate.done
        gate.open.set()
        writers.close()
        assert gate.done

    asyncio.run(work())


def test_errors_are_those_of_the_change() -> None:
    async def work() -> None:
        def broken() -> None:
            raise ValueError("broken")

        writers = Writers()
        with pytest.raises(ValueError, match="broken"):
            await writers.run("a", broken)
        writers.close()

    asyncio.run(work())
