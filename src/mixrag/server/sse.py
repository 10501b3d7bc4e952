"""Server-sent events, which end the work where the client goes away."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from sse_starlette import EventSourceResponse, JSONServerSentEvent, ServerSentEvent
from starlette.types import Receive, Scope, Send

from mixrag.errors import MixragError
from mixrag.server.errors import error_object
from mixrag.utils.text import finite

_LOG = logging.getLogger("mixrag.server")
_END = "\n"
_PING_SECONDS = 15
_GRACE_SECONDS = 86_400.0
"""How long a stream may go on when the server is asked to stop: to its end, which other limits see to."""


class Events(EventSourceResponse):
    """A stream of events; ``close`` is called when it has ended, whether or not all of it was sent."""

    def __init__(self, events: AsyncIterator[ServerSentEvent], close: Callable[[], None]) -> None:
        super().__init__(events, sep=_END, ping=_PING_SECONDS, shutdown_grace_period=_GRACE_SECONDS)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


def event(document: dict[str, Any], name: str | None = None) -> ServerSentEvent:
    """One event; its data is JSON on one line, in which the logarithm of zero is null."""
    return JSONServerSentEvent(finite(document), event=name, sep=_END)


DONE = ServerSentEvent("[DONE]", sep=_END)
"""The end of a stream in OpenAI's dialect."""


def error_event(error: Exception) -> ServerSentEvent:
    """The event "error" for an error after the response has begun; what is not mixrag's own is logged."""
    return event(logged_error(error), "error")


def logged_error(error: Exception) -> dict[str, Any]:
    """The error object for an error after the response has begun; what is not mixrag's own is logged."""
    if not isinstance(error, MixragError):
        _LOG.error("unexpected %s", type(error).__name__, exc_info=error)
    return error_object(error)
