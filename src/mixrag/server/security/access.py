"""Who asks: the host and origin that a request names, and its key."""

from __future__ import annotations

from collections import defaultdict

from starlette.types import ASGIApp, Receive, Scope, Send

from mixrag.server.security import hosts
from mixrag.server.security.policy import Security, is_open
from mixrag.server.security.refusals import HostError, KeyMissingError, OriginError, refuse

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


def headers_of(scope: Scope) -> dict[bytes, list[bytes]]:
    """All headers of a request by name; of one that is sent twice, both."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for name, value in scope["headers"]:
        found[name].append(value)
    return found


class OwnHost:
    """Answers only under the names of this server.

    Any site may have its name point to 127.0.0.1 (DNS rebinding); to a browser this server is then that site, and
    its pages read what they like. They cannot choose the ``Host`` header.
    """

    def __init__(self, app: ASGIApp, security: Security) -> None:
        self._app, self._security = app, security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or refuse with 421."""
        if scope["type"] == "http":
            sent = hosts.one(headers_of(scope), b"host")
            name = hosts.host_name(sent) if sent is not None else None
            if name is None or not self._security.knows(name):
                found = "none" if sent is None else repr(sent[:80])
                remedy = "if it is this server's, start it with --allowed-host NAME"
                error = HostError("a Host that is this server's", found, remedy)
                return await refuse(error, scope, receive, send)
        await self._app(scope, receive, send)


class OwnOrigin:
    """Refuses what pages of other sites send.

    They may send forms, which no preflight request announces, to any server; the answer is hidden from them, but
    what was asked for is done. The rule is that of Go's ``net/http.CrossOriginProtection``: ``Sec-Fetch-Site``
    where a browser sends it, else ``Origin`` against ``Host``. Programs send neither.
    """

    def __init__(self, app: ASGIApp, security: Security) -> None:
        self._app, self._security = app, security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or refuse with 403."""
        if scope["type"] == "http" and (origin := self._foreign(scope)):
            remedy = "start the server with --cors ORIGIN to allow that"
            error = OriginError("a request from this server's own page", f"one from {origin[:80]}", remedy)
            return await refuse(error, scope, receive, send)
        await self._app(scope, receive, send)

    def _foreign(self, scope: Scope) -> str | None:
        """The other site that sends a request."""
        headers = headers_of(scope)
        origin, site = hosts.one(headers, b"origin"), hosts.one(headers, b"sec-fetch-site")
        if b"origin" in headers:
            own = origin is not None and hosts.is_own_origin(origin, hosts.one(headers, b"host") or "")
            allowed = origin in self._security.origins
            return None if own or allowed or site == "same-origin" else origin or "several origins"
        changing = scope["method"] not in SAFE
        return "another site" if changing and site in ("cross-site", "same-site") else None


class WithKey:
    """Answers those who have a key; ``request.state.client`` is its name, or the peer's address without keys.

    Wrong keys are not counted, nor are those who send them slowed down: a key is 256 random bits.
    """

    def __init__(self, app: ASGIApp, security: Security) -> None:
        self._app, self._security = app, security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or refuse with 401."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if self._security.keys is not None and not is_open(scope["path"], scope["method"]):
            sent = _key(scope)
            name = self._security.keys.name_of(sent) if sent else None
            if name is None:
                error = KeyMissingError(
                    "an API key of this server",
                    "another" if sent else "none",
                    "send it as Authorization: Bearer KEY",
                )
                return await refuse(error, scope, receive, send, {"WWW-Authenticate": 'Bearer realm="mixrag"'})
            scope["state"]["client"] = name
        await self._app(scope, receive, send)


def _key(scope: Scope) -> bytes | None:
    headers = headers_of(scope)
    if sent := headers.get(b"authorization"):
        scheme, _, key = sent[0].partition(b" ")
        return key.strip() if scheme.lower() == b"bearer" and len(sent) == 1 else None
    sent = headers.get(b"x-api-key", [])
    return sent[0].strip() if len(sent) == 1 else None
