"""Questions under way: a bounded queue before the threads that answer them, each answer token by token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from mixrag.answers.answer import Answer
from mixrag.answers.stream import Stream, StreamedToken
from mixrag.rag import RAG
from mixrag.server.errors import BusyError, TimeLimitError
from mixrag.server.watch import Watch, WatchedByAll

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Of the questions under way at once."""

    threads: int = 4
    """Answered side by side; tokens of one language model take turns."""
    waiting: int = 64
    """Questions beyond those; further ones are refused."""
    seconds: float = 300.0
    """Longest time from a question to its whole answer."""


class Questions:
    """Everything that runs a model passes through here, off the event loop."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self.running = 0
        """Questions that were taken and have not ended."""
        self.watches: list[Watch] = []
        """These look on at every answer."""
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="mixrag-question")

    async def run(self, work: Callable[[], T], client: str = "") -> T:
        """What a function returns, run by a thread of the queue.

        Raises:
            BusyError: too many are waiting.
            TimeLimitError: it took too long; it ends in the background.
        """
        self._take()
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
            return await asyncio.wait_for(asyncio.shield(future), self.limits.seconds)
        except TimeoutError as error:
            raise self._too_long() from error
        finally:
            self.running -= 1

    def ask(self, rag: RAG, question: str, changes: Mapping[str, Any], client: str = "") -> Asked:
        """An answer under way; nothing runs before its first token or ``answer`` is awaited.

        ``client`` names who asks, for fairness between clients.
        """
        return Asked(self, rag, question, changes, client)

    def close(self) -> None:
        """Take no more questions, and wait for those under way."""
        self._threads.shutdown(cancel_futures=True)

    def _take(self) -> None:
        if self.running >= self.limits.threads + self.limits.waiting:
            expected = f"at most {self.limits.threads + self.limits.waiting} questions at once"
            raise BusyError(expected, "more", "ask again in some seconds", seconds=5)
        self.running += 1

    def _too_long(self) -> TimeLimitError:
        expected = f"an answer within {self.limits.seconds:g} seconds"
        return TimeLimitError(expected, "none yet", "ask with fewer passages (k) or fewer tokens (max_tokens)")


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
        self._taken = False
        self._watched = WatchedByAll([watch.asked(rag) for watch in questions.watches])

    async def stream(self) -> Stream:
        """The stream, its passages retrieved and read: ``retrieval``, ``may_abstain``, ``decoder.streams``.

        Raises:
            BusyError: too many questions are waiting.
            MixragError: as ``RAG.stream``.
        """
        if self._stream is None:
            self._questions._take()
            self._taken = True
            self._stream = await self._in_thread(lambda: self._rag.stream(self._question, **self._changes))
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

    def close(self) -> None:
        """End it after the token that is being computed."""
        if self._stream is not None:
            self._stream.close()
        if self._taken:
            self._taken = False
            self._questions.running -= 1
        self._watched.ended()

    async def __aenter__(self) -> Asked:
        """For ``async with``."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._questions._threads, work)
        try:
            return await asyncio.wait_for(asyncio.shield(future), max(0.0, self._deadline - time.monotonic()))
        except TimeoutError as error:
            self._watched.failed(error)
            raise self._questions._too_long() from error
        except BaseException as error:
            self._watched.failed(error)
            raise
