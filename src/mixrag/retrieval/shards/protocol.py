"""Shard: a part of a corpus, on this machine or another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mixrag.errors import ServerError, StoreBusyError
from mixrag.retrieval.shards.exchange import (
    Likelihoods,
    LikelihoodsRequest,
    SearchRequest,
    ShardReply,
    Statistics,
    StatisticsRequest,
)


class ShardChangedError(StoreBusyError):
    """A shard is in another state than the one that the request is about: ask again."""

    def __init__(self, name: str) -> None:
        super().__init__(f"shard {name} in the state that was asked about", "another one", "ask again")


class ShardRefusedError(ServerError):
    """A server lets nobody in without another key, or has no such shard: that will not change by itself."""


class Shard(Protocol):
    """A part of a corpus that answers for itself; all methods may be called from several threads.

    What cannot be done now is a ``StoreError`` or ``ServerError``: the shard is missing from the answer. Other
    errors are of the question, and are raised.
    """

    @property
    def name(self) -> str:
        """How messages name it: its location."""
        ...

    def statistics(self, request: StatisticsRequest) -> Statistics:
        """How often words are in its passages."""
        ...

    def search(self, request: SearchRequest) -> ShardReply:
        """Its best passages for a question.

        Raises:
            ShardChangedError: it is in another state.
            SettingError: a vector of another length, log Z that is to be exact and is not, more passages than a
                server gives, or a filter where likelihoods alone are shared.
        """
        ...

    def likelihoods(self, request: LikelihoodsRequest) -> Likelihoods:
        """How probable answers are after passages that it does not share. Raises as ``search``."""
        ...

    def close(self) -> None:
        """Let go of what it has open."""
        ...


@dataclass(frozen=True)
class Withheld:
    """A passage of which the owner gives likelihoods alone."""

    shard: Shard
    row: int
    state: str
