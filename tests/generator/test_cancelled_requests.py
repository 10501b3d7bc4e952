"""Requests of a question that is cancelled: those under way are aborted, and no other is sent."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import httpx2
import pytest

from mixrag.errors import ServerError, StreamClosedError
from mixrag.generator.remote.client import Client, Limits, Request
from mixrag.utils.cancellation import Cancellation, in_thread

URL = "http://server.test/v1"
SECONDS = 10
"""Longer than any wait here, and shorter than what a request that is not cancelled takes."""


class Held:
    """Counts requests, and answers none but those to ``/free``."""

    def __init__(self, expected: int = 1) -> None:
        self.paths: list[str] = []
        self.all_begun, self.aborted = threading.Event(), threading.Semaphore(0)
        self._expected = expected

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.paths.append(request.url.path)
        if request.url.path.endswith("/free"):
            return httpx2.Response(200, json={})
        if len(self.paths) == self._expected:
            self.all_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.aborted.release()
        raise AssertionError("nobody ends the wait")


def client(handle: Any, **options: Any) -> Client:
    return Client(URL, transport=httpx2.MockTransport(handle), **options)


def begun(work: Callable[[], object]) -> Future[object]:
    """What a function returns that runs in a thread; one that never ends does not keep the tests alive."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def test_requests_under_way_are_aborted_and_those_that_wait_are_not_sent() -> None:
    held, cancellation = Held(3), Cancellation()
    found = client(held, limits=Limits(requests=3))
    requests = [Request(f"{URL}/{place}") for place in range(20)]
    waiting = begun(lambda: cancellation.run(found.all, requests))
    assert held.all_begun.wait(SECONDS)
    cancellation.cancel()
    with pytest.raises(StreamClosedError, match="cancelled"):
        waiting.result(SECONDS)
    for _ in range(3):
        assert held.aborted.acquire(timeout=SECONDS)
    found.one(f"{URL}/free")  # behind all that would still be sent
    assert held.paths == ["/v1/0", "/v1/1", "/v1/2", "/v1/free"]


def test_the_connection_is_closed() -> None:
    cancellation, closed, asked = Cancellation(), threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(SECONDS)
                assert connection.recv(65536)
                asked.set()
                assert connection.recv(65536) == b"", "the end of the connection"
                closed.set()

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        found = Client(url)
        waiting = begun(lambda: cancellation.run(found.one, f"{url}/x"))
        assert asked.wait(SECONDS)
        cancellation.cancel()
        with pytest.raises(StreamClosedError):
            waiting.result(SECONDS)
        assert closed.wait(SECONDS)


def test_a_pause_before_a_repetition_ends_at_once() -> None:
    asked, pausing, ended = [], threading.Event(), threading.Event()

    async def pause(_: float) -> None:
        pausing.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def busy(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(429, json={})

    cancellation, found = Cancellation(), client(busy, pause=pause)
    waiting = begun(lambda: cancellation.run(found.one, f"{URL}/x"))
    assert pausing.wait(SECONDS)
    cancellation.cancel()
    with pytest.raises(StreamClosedError):
        waiting.result(SECONDS)
    assert ended.wait(SECONDS)
    assert asked == ["/v1/x"]


def test_a_question_that_was_cancelled_sends_nothing() -> None:
    held, cancellation = Held(), Cancellation()
    found = client(held)
    cancellation.cancel()
    for _ in range(2):
        with pytest.raises(StreamClosedError):
            cancellation.run(found.one, f"{URL}/x")
    found.one(f"{URL}/free")
    assert held.paths == ["/v1/free"]


def test_other_questions_of_the_client_go_on() -> None:
    held, cancellation = Held(), Cancellation()
    found = client(held)
    waiting = begun(lambda: cancellation.run(found.one, f"{URL}/x"))
    assert held.all_begun.wait(SECONDS)
    other = begun(lambda: Cancellation().run(found.one, f"{URL}/free"))
    assert other.result(SECONDS) == {}
    assert not waiting.done()
    cancellation.cancel()
    with pytest.raises(StreamClosedError):
        waiting.result(SECONDS)
    assert found.one(f"{URL}/free") == {}


@pytest.mark.parametrize("place", [0, 1])
def test_each_of_several_cancellations_around_a_request_ends_it(place: int) -> None:
    held, both = Held(), (Cancellation(), Cancellation())
    found = client(held)
    waiting = begun(lambda: both[0].run(both[1].run, found.one, f"{URL}/x"))
    assert held.all_begun.wait(SECONDS)
    both[place].cancel()
    with pytest.raises(StreamClosedError):
        waiting.result(SECONDS)


def test_a_copied_context_carries_it_to_another_thread() -> None:
    held, cancellation = Held(), Cancellation()
    found = client(held)
    context = cancellation.run(contextvars.copy_context)
    waiting = begun(lambda: context.run(found.one, f"{URL}/x"))
    assert held.all_begun.wait(SECONDS)
    cancellation.cancel()
    with pytest.raises(StreamClosedError):
        waiting.result(SECONDS)


def test_a_task_that_is_cancelled_ends_the_requests_of_its_thread() -> None:
    held = Held()
    found = client(held)

    async def ask() -> None:
        task = asyncio.create_task(in_thread(found.one, f"{URL}/x"))
        assert await asyncio.to_thread(held.all_begun.wait, SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(held.aborted.acquire, timeout=SECONDS)

    asyncio.run(ask())
    assert held.paths == ["/v1/x"]


def test_errors_of_the_server_stay_errors_of_the_server() -> None:
    found = client(lambda _: httpx2.Response(400, json={}))
    with pytest.raises(ServerError):
        Cancellation().run(found.one, f"{URL}/x")
