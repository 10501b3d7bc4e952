"""Questions under way: a bounded queue before the threads that answer them, each answer token by token.

The tokens of several answers by one language model come from one running batch (batches.py); who may begin is
decided by a queue that is fair between clients (waiting.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from mixrag.answers.answer import Answer
from mixrag.answers.explanation import Explanation
from mixrag.answers.stream import Stream, StreamedToken
from mixrag.errors import StreamClosedError
from mixrag.rag import RAG
from mixrag.server.batches import ROWS, Batches, InBatch
from mixrag.server.errors import TimeLimitError
from mixrag.server.waiting import FairQueue, Place
from mixrag.server.watch import Watch, WatchedByAll
from mixrag.utils.cancellation import Cancellation

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Of the questions under way at once."""

    threads: int = 16
    """Answered side by side; those of one language model are rows of one batch."""
    rows: int = ROWS
    """Of a language model in its running batch."""
    waiting: int = 64
    """Questions beyond those; further ones are refused."""
    seconds: float = 300.0
    """Longest time from a question to its whole answer."""


class Questions:
    """Everything that runs a model passes through here, off the event loop."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self.batches = Batches(limits.rows)
        self.watches: list[Watch] = []
        """These look on at every answer."""
        self._queue = FairQueue(limits.threads, limits.waiting)
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="mixrag-question")

    @property
    def running(self) -> int:
        """Questions that have begun and not ended; also one whose client has gone, while its thread works."""
        return self._queue.running

    @property
    def waiting(self) -> int:
        """Questions that were taken and have not begun."""
        return self._queue.waiting

    async def run(self, work: Callable[[], T], client: str = "", seconds: float | None = None) -> T:
        """What a function returns, run by a thread of the queue.

        Args:
            work: the function. Once begun it ends, whatever becomes of its client; its requests to other machines
                end with the client.
            client: who asks, for fairness between clients.
            seconds: longest time for it, waiting included; None: that of the limits.

        Raises:
            BusyError: too many are waiting.
            ClosingError: the server is about to stop.
            TimeLimitError: it took too long; it ends in the background.
        """
        cancellation = Cancellation()
        limit = self.limits.seconds if seconds is None else seconds
        deadline = time.monotonic() + limit
        place = self._queue.enter(client)
        try:
            await self._begun(place, deadline)
            future = self._threads.submit(cancellation.run, work)
        except BaseException:
            place.leave()
            raise
        future.add_done_callback(lambda _: place.leave())
        try:
            return await self._within(future, deadline, limit)
        except (asyncio.CancelledError, TimeLimitError):
            cancellation.cancel()
            raise

    def ask(self, rag: RAG, question: str, changes: Mapping[str, Any], client: str = "") -> Asked:
        """An answer under way; nothing runs before its first token or ``answer`` is awaited.

        ``client`` names who asks, for fairness between clients.
        """
        return Asked(self, rag, question, changes, client)

    def end(self) -> None:
        """Begin nothing more: who waits or comes is refused with ``ClosingError``; what has begun goes on."""
        self._queue.end()

    def close(self) -> None:
        """``end``, and wait for what has begun."""
        self.end()
        self._threads.shutdown()

    async def _begun(self, place: Place, deadline: float) -> None:
        await self._within(place.begun, deadline, self.limits.seconds)

    async def _within(self, future: Future[T], deadline: float, limit: float) -> T:
        """The result of a future, which is not cancelled where the time is up or the task is cancelled."""
        waited = asyncio.wrap_future(future)
        waited.add_done_callback(lambda done: done.cancelled() or done.exception())  # else it is logged as lost
        try:
            return await asyncio.wait_for(asyncio.shield(waited), max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            if waited.done() and not waited.cancelled() and waited.exception() is error:
                raise  # of the work itself
            raise _too_long(limit) from error


class Asked(AsyncIterator[StreamedToken]):
    """An answer under way; close it where its client has gone.

    >>> async with questions.ask(rag, "Who issues the licence?", {}) as asked:  # doctest: +SKIP
    ...     stream = await asked.stream()
    ...     async for token in asked:
    ...         print(token.text)
    ...     answer = await asked.answer()
    """

    def __init__(
        self, questions: Questions, rag: RAG, question: str, changes: Mapping[str, Any], client: str
    ) -> None:
        self._questions, self._rag = questions, rag
        self._question, self._changes, self.client = question, changes, client
        self._stream: Stream | None = None
        self._deadline = time.monotonic() + questions.limits.seconds
        self._place: Place | None = None
        self._working: Future[Any] | None = None
        self._decoder: InBatch | None = None
        self._closed = False
        self._cancellation = Cancellation()
        self._watched = WatchedByAll([watch.asked(rag) for watch in questions.watches])

    async def stream(self) -> Stream:
        """The stream, its passages retrieved: ``retrieval``, ``may_abstain``, ``decoder.streams``.

        Raises:
            BusyError: too many questions are waiting.
            ClosingError: the server is about to stop.
            MixragError: as ``RAG.stream``.
        """
        if self._stream is None:
            self._check_open()
            if self._place is None:
                try:
                    self._place = self._questions._queue.enter(self.client)
                    await self._questions._begun(self._place, self._deadline)
                except BaseException as error:
                    self._failed(error)
                    self.close()
                    raise
            self._stream = await self._in_thread(self._begin)
            self._watched.began(self._stream)
        return self._stream

    def __aiter__(self) -> Asked:
        """The tokens not yet taken."""
        return self

    async def __anext__(self) -> StreamedToken:
        """The next token."""
        stream = await self.stream()
        token = await self._in_thread(lambda: next(stream, None))
        if token is None:
            raise StopAsyncIteration
        self._watched.token()
        return token

    async def answer(self) -> Answer:
        """The whole answer; takes the tokens that are left."""
        stream = await self.stream()
        answer = await self._in_thread(lambda: stream.answer)
        self._watched.answered(answer)
        return answer

    async def made(self, make: Callable[[Answer], T]) -> T:
        """What a function makes of the whole answer, in a thread, within its place and time."""
        answer = await self.answer()
        return await self._in_thread(lambda: make(answer))

    async def explain(self) -> Explanation:
        """``Answer.explain`` of the whole answer, within its place and time."""
        return await self.made(lambda answer: answer.explain())

    def close(self) -> None:
        """End it: it leaves the batch after the token that is being computed, and its requests end at once.

        More than once is as once.
        """
        self._closed = True
        self._cancellation.cancel()
        if self._decoder is not None:
            self._decoder.cancel()
        if self._stream is not None:
            self._stream.close()
        place, working = self._place, self._working
        if place is not None:
            if working is None or working.done():
                place.leave()
            else:  # its thread is not free before
                working.add_done_callback(lambda _: place.leave())
        self._watched.ended()

    async def __aenter__(self) -> Asked:
        """For ``async with``."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def _begin(self) -> Stream:
        """The stream, whose answer is decoded in a batch with others."""
        stream = self._rag.stream(self._question, **self._changes)
        self._decoder = self._questions.batches.decoder(stream.decoder)
        stream.decoder = self._decoder
        if self._closed:
            stream.close()
            self._decoder.cancel()
        return stream

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, asyncio.CancelledError):  # then the client has gone: nothing failed
            self._watched.failed(error)

    def _check_open(self) -> None:
        if self._closed:
            raise StreamClosedError("an answer under way", "one that was closed", "ask again")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._check_open()
        self._working = self._questions._threads.submit(self._cancellation.run, work)
        try:
            return await self._questions._within(self._working, self._deadline, self._questions.limits.seconds)
        except BaseException as error:
            self._failed(error)
            if isinstance(error, TimeLimitError):
                self.close()
            raise


def _too_long(seconds: float) -> TimeLimitError:
    expected = f"an answer within {seconds:g} seconds"
    return TimeLimitError(expected, "none yet", "ask with fewer passages (k) or fewer tokens (max_tokens)")
