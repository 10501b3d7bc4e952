"""Connections with time limits: uvicorn has none for headers that never end, nor for clients that do not read."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import ClassVar

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from mixrag.server.errors import RequestError, error_object
from mixrag.server.security.policy import RATE, Security
from mixrag.server.security.refusals import TooSlowError, refuse

HEADER_BYTES = 32 * 1024
"""Request line and headers."""
STALLED_SECONDS = 30.0
"""Longest time in which a client takes less than ``RATE`` bytes a second of what is ready for it."""


class OverloadedError(RequestError):
    """More connections than the server takes."""

    status = 503
    kind = "server_error"
    code = "overloaded"


async def overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of connections beyond the limit."""
    error = OverloadedError("fewer connections at once", "more than the server takes", "try again in some seconds")
    await refuse(error, scope, receive, send, {"Retry-After": "5", "Connection": "close"})


class GuardedProtocol(H11Protocol):
    """One connection.

    A clock runs while a request is awaited or arrives, up to the end of its headers, and while the rest of a body
    arrives that nobody reads, since its request was refused. While a route runs, its own time limits hold.
    """

    security: ClassVar[Security] = Security()
    _clock: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock; one connection too many gets an error, and far too many nothing."""
        super().connection_made(transport)
        # What a client has not taken is to be seen at once, so that the time that it takes can be limited.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > 2 * self.security.connections:
            return transport.abort()
        if len(self.connections) > self.security.connections:
            self.app = overloaded
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read, and look at the clock."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, and look at the clock."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._stop()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take what is ready."""
        super().pause_writing()
        if self._stall is None:
            self._watch_stall(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has taken all."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, in OpenAI's shape."""
        status = int(getattr(sys.exception(), "error_status_hint", 400))
        self._end(RequestError("a request in HTTP/1.1", msg.rstrip(".").lower(), "send it again"), status)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        awaited = self.cycle is None or bool(self.conn.trailing_data[0]) or self.conn.their_state is h11.SEND_BODY
        if answering or not awaited:
            self._stop()
        elif self._clock is None:
            self._clock = self.loop.call_later(self.security.read_seconds, self._late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        expected = f"the headers of a request within {self.security.read_seconds:g} seconds"
        self._end(TooSlowError(expected, "a part of them", "send it again"), TooSlowError.status)

    def _end(self, error: RequestError, status: int) -> None:
        """Send an error where no response has begun, and close."""
        if self.transport.is_closing():
            return
        begun = self.conn.trailing_data[0] or self.conn.their_state is not h11.IDLE
        if not begun or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return self.transport.abort()
        body = json.dumps(error_object(error)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        start = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in (start, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:  # its body is broken
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def _watch_stall(self, left: int) -> None:
        self._stall = self.loop.call_later(STALLED_SECONDS, self._still_stalled, left)

    def _still_stalled(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if before - left < STALLED_SECONDS * RATE:
            return self.transport.abort()
        self._watch_stall(left)


def guarded(security: Security) -> type[GuardedProtocol]:
    """The class of connections with these limits, for uvicorn's ``http``."""
    return type("Guarded", (GuardedProtocol,), {"security": security})
