"""Work for a client that has gone is ended: its question leaves the batch, and its place goes to another."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSED = 499
"""Status of a request whose client has gone, in the words of nginx; nobody receives it."""


class CancelledWithClient:
    """Cancels the task of a request when the client disconnects, once the request's body has been read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = _Client(receive, send)
        work = asyncio.ensure_future(self._app(scope, client.receive, client.send))
        gone = asyncio.ensure_future(client.gone())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            await client.close()
        finally:
            work.cancel()
            gone.cancel()


class _Client:
    """A request's two ends, and what of them is over."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._read, self._gone = asyncio.Event(), asyncio.Event()
        self._started = self._complete = False

    async def receive(self) -> Message:
        """The body; then, when the client has gone, that it has."""
        if self._read.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone.set()
        if not message.get("more_body", False):
            self._read.set()
        return message

    async def send(self, message: Message) -> None:
        """A part of the response."""
        self._started = True
        self._complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def gone(self) -> None:
        """Wait until the client has gone before its response was complete."""
        await self._read.wait()
        while not self._gone.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._gone.set()
        if self._complete:
            await asyncio.Event().wait()

    async def close(self) -> None:
        """A response for whatever is around this application and waits for one."""
        if not self._started:
            await self._send({"type": "http.response.start", "status": CLOSED, "headers": []})
        if not self._complete:
            await self._send({"type": "http.response.body", "body": b""})
