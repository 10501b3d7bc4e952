"""An answer under way in an asyncio program: each token is computed in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Self

from mixrag.answers.answer import Answer
from mixrag.answers.stream import Stream, StreamedToken
from mixrag.errors import StreamClosedError
from mixrag.utils.cancellation import Cancellation


class AsyncStream(AsyncIterator[StreamedToken]):
    """``Stream`` for ``async for``; ``answer`` is there once the tokens have been taken.

    Retrieval and every token run in a worker thread, one after the other, so that the event loop is free. Where
    the task is cancelled, the token being computed is the last, and requests to other machines end at once.
    """

    def __init__(self, open_stream: Callable[[], Stream]) -> None:
        self._open = open_stream
        self._stream: Stream | None = None
        self._error: Exception | None = None
        self._closed = False
        self._opening = Cancellation()

    def __aiter__(self) -> Self:
        """The tokens not yet taken."""
        return self

    async def __anext__(self) -> StreamedToken:
        """The next token; raises what ``Stream`` raises."""
        stream = await self.start()
        try:
            token = await asyncio.to_thread(next, stream, None)
        except asyncio.CancelledError:
            self.close()
            raise
        if token is None:
            raise StopAsyncIteration
        return token

    async def start(self) -> Stream:
        """Retrieve the passages, and let the model read them; the stream that the tokens are taken from.

        Raises:
            MixragError: as ``Pipeline.ask``.
        """
        if self._error is not None:
            raise self._error
        if self._closed and self._stream is None:
            raise StreamClosedError("a stream that is open", "one closed before its first token", "ask again")
        if self._stream is None:
            try:
                self._stream = await asyncio.to_thread(self._opening.run, self._open)
            except asyncio.CancelledError:
                self.close()
                raise
            except Exception as error:
                self._error = error
                raise
        return self._stream

    @property
    def answer(self) -> Answer:
        """The finished answer.

        Raises:
            StreamClosedError: there are tokens left (``await stream.result()`` takes them), or it was closed.
            MixragError: the error that ended the stream, whatever its kind.
        """
        if self._error is not None:
            raise self._error
        if self._stream is None or not self._stream.ended:
            raise StreamClosedError(
                "a stream that was read to its end", "tokens left", "iterate to the end, or: await stream.result()"
            )
        return self._stream.answer

    async def result(self) -> Answer:
        """The finished answer; takes the tokens that are left. Raises what ``Stream`` raises."""
        async for _ in self:
            pass
        return self.answer

    def close(self) -> None:
        """End the stream after the token that is being computed; requests to other machines end at once."""
        self._closed = True
        self._opening.cancel()
        if self._stream is not None:
            self._stream.close()

    async def __aenter__(self) -> Self:
        """For ``async with rag.astream(...) as stream``: closed where the loop over it is left early."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close the stream."""
        self.close()
