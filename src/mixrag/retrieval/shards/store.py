"""Shards in the place of one store: what asking, showing and serving read of it; nothing is written.

Documents are those of the shards of this machine; those behind servers are listed and read there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from mixrag.config.filters import filter_texts
from mixrag.corpus import Counts, DocumentRecord, EncoderRecord, Extent, Location, Passage, open_store
from mixrag.corpus.store.location import cache_of, without_password
from mixrag.errors import SettingError
from mixrag.generator.remote.client import Key
from mixrag.retrieval.index import IndexChoice
from mixrag.retrieval.shards.exchange import SearchRequest, ShardDescription, made
from mixrag.retrieval.shards.local import LocalShard
from mixrag.retrieval.shards.locations import places
from mixrag.retrieval.shards.naming import is_url
from mixrag.retrieval.shards.protocol import Shard
from mixrag.retrieval.shards.remote import RemoteShard
from mixrag.retrieval.snapshots import Snapshots

_SHIFT = 40
"""Row ids of documents have the number of their shard above so many bits."""
Described = Callable[[], Sequence[ShardDescription]]


class ShardedStore:
    """Several shards as one store that is only read."""

    own_search = None
    timeout = 30.0

    def __init__(
        self,
        location: str,
        shards: Sequence[Shard],
        expected: Sequence[ShardDescription | None],
        seconds: float = 10.0,
    ) -> None:
        """The shards of a location, what is expected of each, and how long a question waits for one."""
        self.location, self.name, self.seconds = location, without_password(location), seconds
        self.shards = tuple(shards)
        self.expected = {
            shard.name: each for shard, each in zip(shards, expected, strict=True) if each is not None
        }
        self.index_kind: Callable[[], IndexChoice] = lambda: "auto"
        """How shards of this machine are searched."""
        self.descriptions: Described = tuple
        """What the shards last said of themselves."""
        self.current: Described = tuple
        """What they say now; of those that do not answer, what they last said."""

    @classmethod
    def open(cls, location: str, *, key: Key | None = None, seconds: float = 10.0) -> ShardedStore:
        """Open the shards of this machine; servers are not contacted.

        Args:
            location: see ``locations``.
            key: of all servers.
            seconds: that a server is waited for.

        Raises:
            SettingError: a location that is none, or twice.
            StoreError: a manifest, or a store of this machine, that cannot be used.
        """
        found = places(location)
        shards = list[Shard]()
        kind: list[Callable[[], IndexChoice]] = [lambda: "auto"]
        with ExitStack() as opened:
            for place in found:
                shards.append(open_shard(place.location, key, seconds, lambda: kind[0]()))
                opened.callback(shards[-1].close)
            opened.pop_all()
        store = cls(location, shards, [place.expected for place in found], seconds)
        kind[0] = lambda: store.index_kind()
        return store

    def close(self) -> None:
        """Close all shards."""
        for shard in self.shards:
            shard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A snapshot of each shard of this machine; what servers say is of whenever they say it."""
        with ExitStack() as snapshots:
            for _, shard in self._local():
                snapshots.enter_context(shard.store.snapshot())
            yield

    @property
    def cache_directory(self) -> Path:
        """See ``Store``."""
        return cache_of(Location("shards", self.name, self.name))

    @property
    def encoder(self) -> EncoderRecord | None:
        """The encoder of all shards."""
        for each in self.descriptions():
            if each.encoder is not None:
                return EncoderRecord(each.encoder_name, each.encoder, each.dimension)
        return None

    @property
    def encoder_fingerprint(self) -> str | None:
        """See ``Store``."""
        return None if self.encoder is None else self.encoder.fingerprint

    @property
    def splitter(self) -> str | None:
        """The splitter of the first shard that says one."""
        return next((each.splitter for each in self.descriptions() if each.splitter is not None), None)

    @property
    def state(self) -> str:
        """Another one after every change of a shard."""
        return hashlib.sha256("\n".join(each.state for each in self.current()).encode()).hexdigest()[:16]

    @property
    def generation(self) -> int:
        """Changes with every change of a shard."""
        return int(self.state[:12], 16)

    def counts(self) -> Counts:
        """Sums over the shards; a document of two of them counts twice."""
        known = self.current()
        documents = sum(each.documents for each in known)
        return Counts(documents, sum(each.passages for each in known), documents)

    def digest(self) -> str:
        """Another one after every change of a shard."""
        return hashlib.sha256(f"shards {self.state}".encode()).hexdigest()

    def documents_digest(self) -> str:
        """As ``digest``: what is behind servers is known by its state alone."""
        return self.digest()

    def documents(self) -> list[DocumentRecord]:
        """The documents of the shards of this machine, sorted by path."""
        return sorted(
            (each for _, shard in self._local() for each in shard.store.documents()), key=lambda r: r.path
        )

    def document_row(self, path: str) -> int | None:
        """See ``Store``; of the shards of this machine."""
        for s, shard in self._local():
            if (row := shard.store.document_row(path)) is not None:
                return s << _SHIFT | row
        return None

    def files_of(self, document: int) -> list[str]:
        """See ``Store``."""
        shard, row = self._shard_of(document)
        return shard.store.files_of(row)

    def extent(self, document: int) -> Extent:
        """See ``Store``."""
        shard, row = self._shard_of(document)
        return shard.store.extent(row)

    def passages_of(
        self, document: int, *, offset: int = 0, page: int | None = None, limit: int = 20
    ) -> list[Passage]:
        """See ``Store``."""
        shard, row = self._shard_of(document)
        return shard.store.passages_of(row, offset=offset, page=page, limit=limit)

    def offset_before(self, document: int, offset: int, passages: int) -> int:
        """See ``Store``."""
        shard, row = self._shard_of(document)
        return shard.store.offset_before(row, offset, passages)

    def files_below(self, path: str) -> list[str]:
        """See ``Store``; of the shards of this machine."""
        return sorted(each for _, shard in self._local() for each in shard.store.files_below(path))

    def passages_where(self, where: Mapping[str, Any]) -> Iterator[Passage]:
        """The passages that a filter lets through, of all shards, also those behind servers.

        Raises:
            SettingError: no filter, or a shard that shares likelihoods alone.
            StoreError, ServerError: a shard does not answer.
        """
        zeros = [0.0] * max(1, 0 if self.encoder is None else self.encoder.dimension)
        request = made(SearchRequest, vector=zeros, k=None, temperature=1.0, where=filter_texts(where))
        for shard in self.shards:
            yield from (each.passage() for each in shard.search(request).passages or ())

    def __getattr__(self, name: str) -> Any:
        """What needs one store is refused.

        Raises:
            SettingError: for any other public name.
        """
        if name.startswith("_"):
            raise AttributeError(name)
        return self.refuse()

    def refuse(self) -> NoReturn:
        """Say that this is for one store.

        Raises:
            SettingError: always.
        """
        remedy = "name that of one shard: --store STORE"
        raise SettingError("one store, to change it or to read all of it", f"{len(self.shards)} shards", remedy)

    def _local(self) -> list[tuple[int, LocalShard]]:
        return [(s, shard) for s, shard in enumerate(self.shards) if isinstance(shard, LocalShard)]

    def _shard_of(self, document: int) -> tuple[LocalShard, int]:
        shard = self.shards[document >> _SHIFT]
        assert isinstance(shard, LocalShard)
        return shard, document & ((1 << _SHIFT) - 1)


def open_shard(
    location: str, key: Key | None, seconds: float, kind: Callable[[], IndexChoice] = lambda: "auto"
) -> Shard:
    """One shard: a server, which is not contacted yet, or a store. Raises as ``ShardedStore.open``."""
    if is_url(location):
        return RemoteShard(location, key, seconds)
    store = open_store(location)
    return LocalShard(store.name, store, Snapshots(store, kind))


def as_sharded(store: object) -> ShardedStore | None:
    """The store itself where it is in shards."""
    return store if isinstance(store, ShardedStore) else None
