"""The queue: bounded, fair between clients, and its counters right whatever happens to a place."""

from __future__ import annotations

from concurrent.futures import CancelledError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixrag.server.errors import BusyError, ClosingError
from mixrag.server.waiting import UNMEASURED, FairQueue, Place


class Clock:
    """Seconds that the test decides on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def begun(place: Place) -> bool:
    return place.begun.done() and not place.begun.cancelled() and place.begun.exception() is None


def test_so_many_at_once_and_the_others_one_after_the_other() -> None:
    queue = FairQueue(2, 3)
    places = [queue.enter() for _ in range(5)]
    assert (queue.running, queue.waiting) == (2, 3)
    assert [begun(each) for each in places] == [True, True, False, False, False]
    places[0].leave()
    assert [begun(each) for each in places[1:]] == [True, True, False, False]
    for each in places:
        each.leave()
        each.leave()
    assert (queue.running, queue.waiting) == (0, 0)


def test_clients_take_turns() -> None:
    queue = FairQueue(1, 20)
    first = queue.enter("a")
    waiting = {name: queue.enter(name[0]) for name in ("a1", "a2", "a3", "b1", "b2", "c1")}
    order, now = list[str](), first
    while waiting:
        now.leave()
        (name,) = [name for name, place in waiting.items() if begun(place)]
        order.append(name)
        now = waiting.pop(name)
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_one_client_cannot_fill_the_queue_against_others() -> None:
    queue = FairQueue(1, 3)
    flood = [queue.enter("much") for _ in range(4)]
    with pytest.raises(BusyError):
        queue.enter("much")
    other = queue.enter("little")
    with pytest.raises(BusyError):
        flood[3].begun.result(0)
    assert (queue.running, queue.waiting) == (1, 3)
    with pytest.raises(BusyError):  # two of one client, one of the other: nobody has more to give
        queue.enter("little")
    flood[0].leave()
    flood[1].leave()
    assert begun(other)


def test_when_to_ask_again_is_measured() -> None:
    clock = Clock()
    queue = FairQueue(2, 4, clock)
    assert queue.retry_after == UNMEASURED
    places = [queue.enter() for _ in range(2)]
    clock.now = 6.0
    for each in places:
        each.leave()
    assert queue.retry_after == 3  # six seconds each, two at once: a place is free every three
    for _ in range(6):
        queue.enter()
    assert queue.retry_after == 15
    with pytest.raises(BusyError) as raised:
        queue.enter()
    assert raised.value.seconds == 15 and "ask again in 15 s" in str(raised.value)


def test_at_its_end_those_under_way_go_on_and_the_others_are_refused() -> None:
    queue = FairQueue(1, 3)
    first, second = queue.enter(), queue.enter("other")
    queue.end()
    assert begun(first)
    with pytest.raises(ClosingError):
        second.begun.result(0)
    with pytest.raises(ClosingError):
        queue.enter()
    second.leave()
    assert (queue.running, queue.waiting) == (1, 0)
    first.leave()
    assert queue.running == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=40), st.integers(1, 3))
def test_counters_whatever_leaves_when(events: list[tuple[str, int]], places: int) -> None:
    queue, inside = FairQueue(places, 4), list[Place]()
    for client, number in events:
        if number % 2 and inside:
            inside.pop(number % len(inside)).leave()
        else:
            try:
                inside.append(queue.enter(client))
            except BusyError:
                assert queue.waiting == 4
        refused = [each for each in inside if each.begun.done() and not begun(each)]
        for each in refused:
            with pytest.raises((BusyError, CancelledError)):
                each.begun.result(0)
            each.leave()
            inside.remove(each)
        assert queue.running == sum(map(begun, inside)) == min(places, len(inside))
        assert queue.waiting == len(inside) - queue.running <= 4
    for each in inside:
        each.leave()
    assert (queue.running, queue.waiting) == (0, 0)
