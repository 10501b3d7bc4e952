"""Who is next: a bounded queue that is fair between clients, and the few of it that are under way."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

from mixrag.server.errors import BusyError, ClosingError

MEASURED = 32
"""Of so many questions that ended last, the mean time says how fast the queue moves."""
UNMEASURED = 5
"""Seconds after which to ask again, while nothing has been measured."""


class Place:
    """One question's place in a ``FairQueue``: waiting, then under way, until it leaves."""

    def __init__(self, queue: FairQueue, client: str) -> None:
        self._queue, self.client = queue, client
        self.begun: Future[None] = Future()
        """Done when it may begin; raises ``MixragError`` where it never will."""
        self.since: float | None = None
        """When it began, by the queue's clock."""

    def leave(self) -> None:
        """Give the place up, in any state; more than once is as once."""
        self._queue._leave(self)


class FairQueue:
    """At most ``places`` questions are under way and ``waiting`` wait, in turn one of each client that waits.

    Where the queue is full, a client with fewer questions in it takes the place of the newest one of the client
    with most, which is refused: whoever asks much cannot shut others out. Safe to use from several threads.
    """

    def __init__(self, places: int, waiting: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.places, self.most = places, waiting
        self._clock, self._lock = clock, Lock()
        self._running: set[Place] = set()
        self._lines: OrderedDict[str, deque[Place]] = OrderedDict()
        """Those who wait, by client; the first client is next, and each has somebody waiting."""
        self._ended: deque[float] = deque(maxlen=MEASURED)
        self._closed = False

    @property
    def running(self) -> int:
        """Under way."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Not begun yet."""
        with self._lock:
            return self._count()

    @property
    def retry_after(self) -> int:
        """Seconds after which one more question could begin if nobody else came.

        The questions before it, times the mean time that one has taken, divided by how many are under way at once.
        """
        with self._lock:
            return self._seconds()

    def enter(self, client: str = "") -> Place:
        """A place for a question of this client; wait for its ``begun``, and ``leave`` it in any case.

        Raises:
            BusyError: too many are waiting.
            ClosingError: the server is about to stop.
        """
        place = Place(self, client)
        with self._lock:
            if self._closed:
                raise closing()
            if len(self._running) < self.places and not self._lines:
                self._begin(place)
                return place
            if self._count() >= self.most:
                self._make_room(client)
            self._lines.setdefault(client, deque()).append(place)
        return place

    def end(self) -> None:
        """Refuse all that wait and all that come; those under way go on."""
        with self._lock:
            self._closed = True
            refused = [place for line in self._lines.values() for place in line]
            self._lines.clear()
        for place in refused:
            _refuse(place, closing())

    def _make_room(self, client: str) -> None:
        """Refuse the newest question of the client with most; with no fewer of its own, the client is refused."""
        own, most = len(self._lines.get(client, ())), max(map(len, self._lines.values()), default=0)
        if own + 1 >= most:
            raise self._busy()
        greedy = next(name for name, line in self._lines.items() if len(line) == most)
        _refuse(self._lines[greedy].pop(), self._busy())

    def _leave(self, place: Place) -> None:
        with self._lock:
            line = self._lines.get(place.client)
            if line is not None and place in line:
                line.remove(place)
                if not line:
                    del self._lines[place.client]
            if place in self._running:
                self._running.discard(place)
                assert place.since is not None
                self._ended.append(self._clock() - place.since)
            while self._lines and len(self._running) < self.places:
                self._begin(self._next())
        place.begun.cancel()

    def _next(self) -> Place:
        client, line = next(iter(self._lines.items()))
        place = line.popleft()
        del self._lines[client]
        if line:
            self._lines[client] = line  # behind all others
        return place

    def _begin(self, place: Place) -> None:
        if place.begun.set_running_or_notify_cancel():
            place.since = self._clock()
            self._running.add(place)
            place.begun.set_result(None)

    def _count(self) -> int:
        return sum(map(len, self._lines.values()))

    def _seconds(self) -> int:
        if not self._ended:
            return UNMEASURED
        mean = math.fsum(self._ended) / len(self._ended)
        return max(1, math.ceil(mean * (self._count() + 1) / self.places))

    def _busy(self) -> BusyError:
        seconds = self._seconds()
        expected = f"at most {self.places + self.most} questions at once"
        return BusyError(expected, "more", f"ask again in {seconds} s", seconds)


def closing() -> ClosingError:
    """What a question gets that has not begun when the server stops."""
    remedy = "ask again when it is back"
    return ClosingError("a server that goes on", "one that is about to stop", remedy, UNMEASURED)


def _refuse(place: Place, error: BusyError) -> None:
    if place.begun.set_running_or_notify_cancel():
        place.begun.set_exception(error)
