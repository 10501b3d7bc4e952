"""What every response has, whoever made it: a request id, headers that restrict browsers, a line in the log."""

from __future__ import annotations

import logging
import re
import secrets
import time
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixrag.server.security.policy import is_open

_LOG = logging.getLogger("mixrag.server.access")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Ids of clients that are taken; anything else could forge lines of the log."""
PAGE_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
POLICY = "default-src 'none'; frame-ancestors 'none'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # A form of the page sends "Origin: null" under no-referrer, and would be refused.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Traced:
    """Gives each request an id, each response headers that restrict browsers, and the log a line.

    The line has method, path, status, duration, client and id. Questions and keys are in bodies and headers, which
    are not logged, nor is what follows the question mark of an address.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on; an exception that was answered ends here."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = _request_id(Headers(scope=scope))
        state["client"] = str(scope["client"][0]) if scope.get("client") else ""  # until its key is known
        start, status, complete = time.perf_counter(), 0, False

        async def send_traced(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(scope, MutableHeaders(scope=message), request_id)
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, send_traced)
        except Exception:
            if not complete:  # the server ends the connection, so that a part is not taken for the whole
                raise
        finally:
            _log(scope, status, time.perf_counter() - start)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


def _add_headers(scope: Scope, headers: MutableHeaders, request_id: str) -> None:
    headers["X-Request-Id"] = request_id
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    html = headers.get("content-type", "").startswith("text/html")
    headers.setdefault("Content-Security-Policy", PAGE_POLICY if html else POLICY)
    if is_open(scope["path"], scope["method"]):
        headers.setdefault("Cache-Control", "no-cache")
    else:
        headers["Cache-Control"] = "no-store"


def _log(scope: Scope, status: int, seconds: float) -> None:
    state = scope["state"]
    values = {
        "method": scope["method"][:16],
        "path": quote(scope["path"])[:512],
        "status": status,
        "seconds": round(seconds, 4),
        "client": state["client"],
        "request_id": state["request_id"],
    }
    line = "%(method)s %(path)s %(status)d %(seconds).3fs client=%(client)s id=%(request_id)s"
    _LOG.info(line, values, extra=values)
