"""A server that asks the same shards for many questions at once."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from mixrag.errors import StreamClosedError
from mixrag.generator.remote.client import Client, Limits
from mixrag.retrieval.shards.exchange import StatisticsRequest
from mixrag.retrieval.shards.protocol import ShardChangedError
from mixrag.retrieval.shards.remote import RemoteShard
from mixrag.retrieval.shards.side_by_side import side_by_side
from mixrag.utils.cancellation import Cancellation

URL = "http://server.test"
SECONDS = 20


def test_no_question_waits_for_another_one_to_be_answered() -> None:
    """As many as the server answers side by side, and more, are under way at the shard at once."""
    count, running = 3 * 16, 0

    async def handle(_: httpx2.Request) -> httpx2.Response:
        nonlocal running
        running += 1
        async with asyncio.timeout(SECONDS):
            while running < count:
                await asyncio.sleep(0.001)
        return httpx2.Response(409, json={})

    shard = RemoteShard(URL, seconds=2 * SECONDS, transport=httpx2.MockTransport(handle))
    request = StatisticsRequest(words=["cod"], near=False)
    with ThreadPoolExecutor(count) as threads:
        asked = [threads.submit(shard.statistics, request) for _ in range(count)]
        for each in asked:
            with pytest.raises(ShardChangedError):
                each.result()


def test_requests_whose_time_is_over_are_aborted_or_not_sent() -> None:
    paths, aborted = [], threading.Event()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.path)
        if request.url.path == "/free":
            return httpx2.Response(200, json={})
        try:
            await asyncio.Event().wait()
        finally:
            aborted.set()
        raise AssertionError

    client = Client(URL, limits=Limits(requests=1), transport=httpx2.MockTransport(handle))
    found = side_by_side([lambda: client.one(f"{URL}/held")] * 4, 0.3)
    assert [type(each) for each in found] == [TimeoutError] * 4
    assert aborted.wait(SECONDS)
    assert client.one(f"{URL}/free") == {}
    assert paths == ["/held", "/free"], "the other three would have been sent before this one"


def test_a_question_that_is_cancelled_asks_no_shard_longer() -> None:
    begun = threading.Event()

    async def handle(_: httpx2.Request) -> httpx2.Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    client, question = Client(URL, transport=httpx2.MockTransport(handle)), Cancellation()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(question.run, side_by_side, [lambda: client.one(f"{URL}/held")], 60.0)
        assert begun.wait(SECONDS)
        question.cancel()
        (found,) = asked.result(SECONDS)
    assert isinstance(found, StreamClosedError)
