"""Requests to one server: several at a time, repeated where it is busy, ended where one fails or is interrupted.

Only the host that the user named is contacted: no redirect is followed, and neither proxies nor passwords of the
environment are used. The key is sent in one header, and stands in no message.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2

from mixrag.errors import ServerError, SettingError
from mixrag.generator.remote.event_loop import close_in, running_loop
from mixrag.utils.cancellation import cancelled, check_cancelled, ending
from mixrag.utils.text import printable_name

T = TypeVar("T")
logger = logging.getLogger("mixrag.generator")
BUSY = frozenset({408, 429, 500, 502, 503, 504, 529})
"""Answers of a server that may be another one a little later."""
LONGEST_PAUSE = 30.0
LOOK = "look into the server's log"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a server is waited for, in seconds, and how much is asked and taken of it."""

    answer: float = 120.0
    """For the answer to one request."""
    connect: float = 5.0
    """For a connection."""
    patience: float = 120.0
    """For a server that is busy (429, 5xx): all pauses and vain attempts of one request together."""
    first_pause: float = 0.5
    """Before the first repetition; each further pause is twice as long, up to ``LONGEST_PAUSE``."""
    requests: int = 8
    """At a time."""
    megabytes: int = 256
    """Of one answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a server; without a document it is a GET."""

    url: str
    document: Mapping[str, Any] | None = None


class Key:
    """An access key, which no ``repr`` and no pickle shows."""

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def of_environment(cls, name: str | None, option: str = "--api-key-env") -> Key | None:
        """The key in an environment variable; None where none is named. ``option`` names the variable.

        Raises:
            SettingError: there is none, or one that no header can have.
        """
        if name is None:
            return None
        value = os.environ.get(name, "").strip()
        if not value or not (value.isascii() and value.isprintable()):
            found = "characters that no key has" if value else "none"
            remedy = f"set that variable to the key, or name another one ({option})"
            raise SettingError(f"a key in the environment variable {name}", found, remedy)
        return cls(value)

    def header(self) -> dict[str, str]:
        """The header that has it."""
        return {"Authorization": f"Bearer {self._value}"}

    def without(self, text: str) -> str:
        """A text in which the key does not stand."""
        return text.replace(self._value, "***")

    def __repr__(self) -> str:
        """Without the key."""
        return "Key(***)"

    def __getstate__(self) -> Any:
        """No pickle has it."""
        raise TypeError("a key is not pickled")


class Refused(ServerError):
    """The server answered with an error that says something about the request."""

    def __init__(self, expected: str, found: str, remedy: str, status: int) -> None:
        super().__init__(expected, found, remedy)
        self.status = status


class Unreached(ServerError):
    """The server gave no answer at all, or none in time: that says nothing of what it can."""


NOT_SUPPORTED = frozenset({400, 404, 405, 422, 501})
"""Refusals of a server that does not know what it is asked for."""


def reason_of(error: ServerError) -> str:
    """Why a server cannot do what it was asked for, from the error; where that has another cause, it is raised.

    Raises:
        ServerError: the server is not there, is busy, or lets nobody in.
    """
    if isinstance(error, Unreached) or (isinstance(error, Refused) and error.status not in NOT_SUPPORTED):
        raise error
    return f"expected {error.expected}; found {error.found}"


class Client:
    """Requests to one server.

    Args:
        url: of the server; requests go to its host alone.
        key: sent with every request.
        limits: of time and number.
        transport: takes the place of the network, in tests.
        pause: waits a number of seconds.
    """

    def __init__(
        self,
        url: str,
        key: Key | None = None,
        limits: Limits | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.url, self.limits = url, limits or Limits()
        self._key, self._transport, self._pause = key, transport, pause
        self._origin = _origin(httpx2.URL(url))
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: httpx2.AsyncClient | None = None
        self._free: asyncio.Semaphore

    def __repr__(self) -> str:
        """Without the key."""
        return f"Client({self.url!r})"

    def one(self, url: str, document: Mapping[str, Any] | None = None) -> Any:
        """The JSON that one request is answered with; raises as ``all`` does."""
        return self.all([Request(url, document)])[0]

    def all(
        self, requests: Sequence[Request], read: Callable[[Any, int], Any] = lambda found, _: found
    ) -> list[Any]:
        """The JSON that each of several requests is answered with, in their order.

        Where one fails, the caller is interrupted, or its ``Cancellation`` is cancelled, the others are ended:
        those under way are aborted, and neither those that wait nor repetitions are sent.

        Args:
            requests: sent side by side.
            read: what is taken of an answer and the place of its request, as soon as it is there: whole answers
                may be large.

        Raises:
            ServerError: the server cannot be reached, is too slow, refuses, or answers with anything but JSON.
            StreamClosedError: the question was cancelled.
        """
        check_cancelled()
        return self._run(self._all(requests, read))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the thread of all clients, so that callers need no event loop, and may have one."""
        with self._starting:
            loop = running_loop()
            if self._loop is not loop:
                self._start(loop)
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            with ending(future.cancel):
                return future.result()
        except concurrent.futures.CancelledError:
            raise cancelled() from None
        except BaseException:
            future.cancel()
            raise

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        own = self.limits
        http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(own.answer, connect=own.connect, pool=None),
            limits=httpx2.Limits(max_connections=own.requests),
            follow_redirects=False,
            trust_env=False,
            transport=self._transport,
        )
        self._loop, self._http, self._free = loop, http, asyncio.Semaphore(own.requests)
        weakref.finalize(self, close_in, loop, http).atexit = False

    async def _all(self, requests: Sequence[Request], read: Callable[[Any, int], Any]) -> list[Any]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._taken(each, at, read)) for at, each in enumerate(requests)]
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _taken(self, request: Request, at: int, read: Callable[[Any, int], Any]) -> Any:
        return read(await self._answered(request), at)

    async def _answered(self, request: Request) -> Any:
        waited, pause = 0.0, self.limits.first_pause
        while True:
            async with self._free:
                check_cancelled()  # what waited here for another request is ended after that one
                began = time.monotonic()
                answer = await self._sent(request)
                waited += time.monotonic() - began
            if not isinstance(answer, _Later):
                return answer
            # No shorter than the own pause: a server that says "at once" each time would be asked without end.
            wanted = max(pause * random.uniform(0.75, 1.25), answer.after or 0.0)
            if waited + wanted > self.limits.patience:
                raise answer.error
            logger.info("%s; asked again in %.1f s", answer.error.found, wanted)
            await self._pause(wanted)
            waited, pause = waited + wanted, min(2 * pause, LONGEST_PAUSE)

    async def _sent(self, request: Request) -> Any:
        """The JSON of the answer, or what to do where there is none yet."""
        if _origin(httpx2.URL(request.url)) != self._origin:
            raise self._error(f"requests to {self.url} alone", request.url, "name that server")
        assert self._http is not None
        try:
            async with asyncio.timeout(self.limits.answer):
                headers = {} if self._key is None else self._key.header()
                method = "GET" if request.document is None else "POST"
                document = None if request.document is None else dict(request.document)
                async with self._http.stream(method, request.url, headers=headers, json=document) as response:
                    body = await self._body(response)
        except TimeoutError:
            raise self._slow() from None
        except httpx2.ConnectTimeout:
            raise self._unreached("no connection in time") from None
        except httpx2.TimeoutException:
            raise self._slow() from None
        except httpx2.ConnectError as error:
            raise self._unreached(self._shown(str(error))) from None
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            found = f"one that ended in the middle ({self._shown(str(error)) or type(error).__name__})"
            return _Later(Unreached(f"a whole answer of {self.url}", found, LOOK))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreached(self._shown(str(error))) from None
        return self._read(response, body)

    async def _body(self, response: httpx2.Response) -> bytes:
        parts, size, most = [], 0, self.limits.megabytes * 2**20
        async for part in response.aiter_bytes():
            size += len(part)
            if size > most:
                raise self._error(
                    f"an answer of {self.url} below {self.limits.megabytes} MB", "more", "ask for fewer passages"
                )
            parts.append(part)
        return b"".join(parts)

    def _read(self, response: httpx2.Response, body: bytes) -> Any:
        status = response.status_code
        if response.is_success:
            try:
                return json.loads(body)
            except (ValueError, RecursionError):
                if body.lstrip()[:1] in (b"{", b"["):
                    found = "one that ended in the middle, or is no JSON"
                    return _Later(Unreached(f"a whole answer of {self.url}", found, LOOK))
                expected = f"JSON from {response.url}"
                remedy = "give the address of its interface, such as http://HOST:PORT/v1"
                raise self._error(expected, _kind_of(response, body), remedy) from None
        if response.is_redirect:
            where = self._shown(response.headers.get("location", "another address"))
            remedy = "if you trust that address, give it yourself"
            raise self._error(f"an answer of {self.url}", f"a redirect to {where}", remedy)
        error = self._refusal(response, status, self._message(response, body))
        return _Later(error, _retry_after(response)) if status in BUSY else _raise(error)

    def _refusal(self, response: httpx2.Response, status: int, message: str) -> Refused:
        found = f"{status} {message}".strip()
        if status in (401, 403):
            given = "check the key" if self._key else "name the variable that has the key: --api-key-env NAME"
            return Refused(f"to be let in by {self.url}", found, given, status)
        if status == 404:
            return Refused(f"{response.url.path} on {self.url}", found, "check address and model", status)
        if status in BUSY:
            return Refused(
                f"an answer of {self.url} within {self.limits.patience:g} s", found, "try again later", status
            )
        return Refused(f"a request that {self.url} accepts", found, "check model and settings", status)

    def _message(self, response: httpx2.Response, body: bytes) -> str:
        """What the server says of an error."""
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return _kind_of(response, body)
        while isinstance(document, dict):
            names = ("error", "message", "detail")
            document = next((document[name] for name in names if document.get(name)), "")
        return self._shown(document if isinstance(document, str) else json.dumps(document))

    def _unreached(self, found: str) -> Unreached:
        return Unreached(f"a server at {self.url}", found or "none", "start it, or check the address")

    def _slow(self) -> Unreached:
        expected = f"an answer of {self.url} within {self.limits.answer:g} s"
        return Unreached(expected, "none", "lower k or max_tokens, or raise server_timeout (--server-timeout)")

    def _error(self, expected: str, found: str, remedy: str) -> ServerError:
        return ServerError(expected, found, remedy)

    def _shown(self, text: str) -> str:
        """A text of the server on one line, short, and without the key."""
        text = text if self._key is None else self._key.without(text)
        return printable_name(" ".join(text.split()))[:200]


@dataclass(frozen=True, slots=True)
class _Later:
    """No answer yet: what to raise where there is no more patience."""

    error: ServerError
    after: float | None = None
    """Seconds after which the server wants to be asked again."""


def _raise(error: Exception) -> Any:
    raise error


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _kind_of(response: httpx2.Response, body: bytes) -> str:
    if not body.strip():
        return "an empty answer"
    html = body.lstrip()[:1] == b"<" or "html" in response.headers.get("content-type", "")
    return "an HTML page" if html else "an answer that is no JSON"


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds to wait, where the server says so: as a number or as a date."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value)) if value.replace(".", "", 1).isdigit() else _until(value)
    except (ValueError, TypeError):
        return None


def _until(date: str) -> float | None:
    when = parsedate_to_datetime(date)
    return max(0.0, (when - datetime.now(UTC)).total_seconds()) if when.tzinfo else None
