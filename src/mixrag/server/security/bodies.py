"""What a request's body may be: how large, how slow, and JSON that every part of the server can read."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixrag.server.errors import RequestError
from mixrag.server.security.policy import MIB, RATE, UPLOADS, Security
from mixrag.server.security.refusals import BodyError, EncodedError, TooLargeError, TooSlowError, refuse
from mixrag.utils.text import is_unicode

DEPTH = 64
"""Lists and objects inside one another."""
AT_ONCE = 2**18
"""Bytes of JSON that are read on the event loop; more of them in a thread."""
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class LimitedBody:
    """Refuses bodies that are too large or too slow, and JSON that cannot be used; others pass as they arrive.

    JSON is read here as a whole, so that its errors are the same at every route.
    """

    def __init__(self, app: ASGIApp, security: Security) -> None:
        self._app, self._security = app, security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or refuse with 400, 408, 413 or 415."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        upload = form and scope["path"].startswith(UPLOADS) and scope["method"] == "POST"
        limit = self._security.upload_bytes if upload else self._security.request_bytes
        reading = _Reading(receive, limit, self._security.read_seconds)
        try:
            _check_declared(headers, limit)
            if _JSON.fullmatch(headers.get("content-type", "")):
                body = await reading.whole()
                if len(body) > AT_ONCE:
                    await asyncio.to_thread(check_json, body)
                else:
                    check_json(body)
                receive = _replayed(body, reading.receive)
            else:
                receive = reading.receive
        except _Disconnected:
            return
        except _Refused as refused:
            return await refuse(refused.error, scope, receive, send, refused.headers)
        except RequestError as error:
            return await refuse(error, scope, receive, send)
        await self._app(scope, receive, send)


class _Disconnected(Exception):
    """The client has gone before its request was complete."""


class _Refused(HTTPException):
    """A body that is refused while a route reads it: FastAPI passes on no other kind of exception from there."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.status, str(error), {"Connection": "close"})
        self.error = error


class _Reading:
    """A body as it arrives, counted and timed."""

    def __init__(self, receive: Receive, limit: int, seconds: float) -> None:
        self._receive, self._limit, self._seconds = receive, limit, seconds
        self._start = asyncio.get_running_loop().time()
        self._count, self._complete = 0, False

    async def receive(self) -> Message:
        """The next message.

        Raises:
            _Refused: more than the limit, or not in time.
        """
        if self._complete:
            return await self._receive()
        deadline = self._start + self._seconds + self._count / RATE
        try:
            async with asyncio.timeout_at(deadline):
                message = await self._receive()
        except TimeoutError:
            expected = f"a whole request within {self._seconds:g} seconds"
            raise _Refused(TooSlowError(expected, "a part of it", "send it again")) from None
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._count > self._limit:
                raise _Refused(_too_large(self._limit))
        return message

    async def whole(self) -> bytes:
        """The whole body."""
        parts = []
        while not self._complete:
            message = await self.receive()
            if message["type"] != "http.request":
                raise _Disconnected
            parts.append(message.get("body", b""))
        return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, as one message; after it what comes then."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _check_declared(headers: Headers, limit: int) -> None:
    declared = headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(limit)
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise EncodedError("a body that is not compressed", encoding[:40], "send it as it is")


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"a request of at most {limit / MIB:g} MiB", "a larger one", "send less at once")


def check_json(body: bytes) -> None:
    """Refuse a body that is not JSON in UTF-8, has NaN or half a character, or is nested too deeply.

    Raises:
        BodyError: it is one of these.
    """
    if not body:
        return
    try:
        text = body.decode("utf-8")
        found = json.loads(text, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise BodyError("JSON in UTF-8", f"another byte at {error.start}", "encode it as UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        place = f"{error.msg.lower()} at line {error.lineno}, column {error.colno}"
        raise BodyError("JSON", place, "correct it there") from None
    except ValueError:  # more digits than Python converts
        raise BodyError("numbers of a usual size", "one of thousands of digits", "send another") from None
    if text.count("[") + text.count("{") > DEPTH and _deeper(found, DEPTH):
        raise _too_deep()
    if _SURROGATE.search(text) and not all(map(is_unicode, _texts(found))):
        raise BodyError("characters of Unicode", "half of a surrogate pair", "send the whole character")


def _no_number(name: str) -> NoReturn:
    raise BodyError("JSON", f"{name}, which it has not", "send a number or null")


def _too_deep() -> BodyError:
    return BodyError(f"at most {DEPTH} lists and objects inside one another", "more", "send a flatter request")


def _deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects lie deeper inside one another; without recursion."""
    level = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level if isinstance(outer, list | dict) for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _texts(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            stack += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            stack += each
