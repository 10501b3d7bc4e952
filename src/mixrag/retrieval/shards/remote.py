"""A shard behind ``mixrag serve`` on another machine."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ValidationError

from mixrag.errors import ServerError, SettingError
from mixrag.generator.remote.client import Client, Key, Limits, Refused
from mixrag.retrieval.shards.exchange import (
    LIKELIHOOD_SECONDS,
    Likelihoods,
    LikelihoodsRequest,
    SearchRequest,
    ShardReply,
    Statistics,
    StatisticsRequest,
)
from mixrag.retrieval.shards.naming import is_url
from mixrag.retrieval.shards.protocol import ShardChangedError, ShardRefusedError
from mixrag.utils.text import printable_name

Reply = TypeVar("Reply", bound=BaseModel)
CONNECT_SECONDS = 5.0
REQUESTS = 256
"""To one shard at a time: more than there are questions under way, so that none waits for another question's. The
shard has a queue of its own, and the time of ``side_by_side`` ends what waits."""


class RemoteShard:
    """A store that another process serves, named by its address: ``http://HOST:PORT`` or ``http://HOST:PORT/STORE``.

    Nothing but that host is contacted; the key is sent in one header.
    """

    def __init__(
        self,
        url: str,
        key: Key | None = None,
        seconds: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is contacted yet.

        Raises:
            SettingError: an address that is none.
        """
        self.root, self._model = _parts(url)
        self.name = f"{self.root}/{self._model}" if self._model else self.root
        self._seconds = seconds
        # The time limit is that of a shard: a server that is busy for longer is missing.
        connect = min(CONNECT_SECONDS, seconds)
        limits = Limits(answer=seconds, connect=connect, patience=seconds, first_pause=0.2, requests=REQUESTS)
        self._client = Client(self.root, key, limits, transport)
        limit = LIKELIHOOD_SECONDS
        reading = Limits(answer=limit, connect=connect, patience=limit, requests=REQUESTS)
        self._reading = Client(self.root, key, reading, transport)

    def statistics(self, request: StatisticsRequest) -> Statistics:
        """See ``Shard.statistics``."""
        found = self._asked("statistics", request, Statistics)
        if not set(found.frequencies) <= set(request.words) or not set(found.near) <= set(request.words):
            raise self._unusable("the frequencies of the words asked for", "those of others")
        return found

    def search(self, request: SearchRequest) -> ShardReply:
        """See ``Shard.search``."""
        found = self._asked("search", request, ShardReply)
        most = found.count if request.k is None else min(request.k, found.count)
        lengths = {len(found.rows), len(found.inner_products)}
        lengths |= {len(each) for each in (found.bm25, found.passages) if each is not None}
        bm25_missing = request.lexical > 0.0 and found.count > 0 and found.bm25 is None
        if (
            lengths != {len(found.rows)}
            or len(found.rows) > most
            or (found.count and not found.rows)
            or bm25_missing
        ):
            raise self._unusable(f"up to {most} passages with their scores", f"lists of {sorted(lengths)} items")
        for low, high in (each for each in (found.log_z, found.log_z_dense) if each is not None):
            if low > high + 1e-6:
                raise self._unusable("bounds on log Z, the lower one first", f"{low} and {high}")
        needed = [found.log_z] if found.matches or request.lexical == 0.0 else [found.log_z, found.log_z_dense]
        if request.exact and found.count:
            for bounds in needed:
                if bounds is None or bounds[0] != bounds[1]:
                    raise self._unusable("an exact log Z", f"{bounds}")
        return found

    def likelihoods(self, request: LikelihoodsRequest) -> Likelihoods:
        """See ``Shard.likelihoods``."""
        found = self._asked("likelihoods", request, Likelihoods)
        shape = [len(answer) for answer in request.answers]
        each = [[len(row) for row in table] for table in found.tables]
        columns = [
            column for column in (found.log_empty, found.log_answered, found.log_question) if column is not None
        ]
        if each != [[length] * len(request.rows) for length in shape] or any(
            len(column) != len(request.rows) for column in columns
        ):
            raise self._unusable(
                f"likelihoods of {len(shape)} answers after {len(request.rows)} passages", "others"
            )
        return found

    def close(self) -> None:
        """Nothing is open."""

    def _asked(self, what: str, request: BaseModel, kind: type[Reply]) -> Reply:
        document: dict[str, Any] = request.model_dump(mode="json")
        if self._model:
            document["model"] = self._model
        try:
            client = self._reading if isinstance(request, LikelihoodsRequest) else self._client
            found = client.one(f"{self.root}/v1/shard/{what}", document)
        except Refused as error:
            if error.status == 409:
                raise ShardChangedError(self.name) from None
            if error.status in (400, 413, 422):
                raise SettingError(
                    f"a question that shard {self.name} can answer", error.found, "change it"
                ) from None
            if error.status in (401, 403):
                remedy = "name the variable that has its key: --shard-key-env NAME, or check the key"
                raise ShardRefusedError(error.expected, error.found, remedy) from None
            if error.status == 404:
                remedy = "check the address, and the name of the store after it"
                raise ShardRefusedError(f"a shard at {self.name}", error.found, remedy) from None
            raise
        try:
            return kind.model_validate(found)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            place = ".".join(map(str, first["loc"]))[:80]
            raise self._unusable(f"the reply of a shard ({what})", f"{place}: {first['msg'][:100]}") from None

    def _unusable(self, expected: str, found: str) -> ServerError:
        return ServerError(f"{expected} from {self.name}", printable_name(found), "serve it with this mixrag")


def _parts(url: str) -> tuple[str, str]:
    """The address of a server, and the name of the store there, or nothing."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    store = parts.path.strip("/")
    wrong = not parts.hostname or parts.username is not None or parts.query or parts.fragment or port == 0
    if wrong or not is_url(url) or "/" in store or not url.isprintable() or " " in url:
        shown = printable_name(url.rpartition("@")[2])[:100]
        expected = "a shard at http://HOST:PORT or http://HOST:PORT/STORE"
        raise SettingError(expected, repr(shown), "write the address without user name, password and query")
    return f"{parts.scheme}://{parts.netloc}", store
