"""What is remembered of a shard: what it is, and, while it stays in one state, how often words are in it."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from mixrag.retrieval.shards.exchange import ShardDescription, Statistics

MOST = 100_000
"""Words that are remembered; then all are forgotten."""


class Known:
    """What is known of one shard; safe to use in threads."""

    def __init__(self, description: ShardDescription | None = None) -> None:
        """``description``: from a manifest, of a shard that was not asked yet."""
        self.description = description
        """The last that it said of itself."""
        self.missing: str | None = None
        """Why it did not answer the last time; None where it did."""
        self._counted: ShardDescription | None = None
        self._frequencies: dict[str, int] = {}
        self._near: dict[str, list[tuple[int, str, int]]] = {}
        self._lock = Lock()

    def note(self, description: ShardDescription) -> None:
        """It said this of itself."""
        with self._lock:
            self._note(description)

    def forget(self) -> None:
        """It is in another state: no word is known."""
        with self._lock:
            self._forget()

    def unknown(self, words: Sequence[str], *, near: bool) -> list[str]:
        """The words that it has to be asked about; ``near``: also what they may stand for."""
        with self._lock:
            return self._unknown(words, near=near)

    def add(self, found: Statistics, asked: Sequence[str], *, near: bool) -> None:
        """It said this of the words asked for; words that it was not asked about stay unknown."""
        with self._lock:
            self._note(found.shard)
            if len(self._frequencies) > MOST:
                self._forget()
            self._counted = found.shard
            self._frequencies.update({word: found.frequencies.get(word, 0) for word in asked})
            if near:
                self._near.update({word: list(found.near.get(word, ())) for word in asked})

    def statistics(self, words: Sequence[str], *, near: bool) -> Statistics | None:
        """What it would say of these words now; None where it has to be asked."""
        with self._lock:
            if self._counted is None or self._unknown(words, near=near):
                return None
            return Statistics.model_construct(
                shard=self._counted,
                frequencies={word: self._frequencies[word] for word in words if self._frequencies[word]},
                near={word: self._near[word] for word in words if self._near.get(word)} if near else {},
            )

    def _note(self, description: ShardDescription) -> None:
        self.description = _completed(description, self.description)
        if self._counted is not None and self._counted.state != description.state:
            self._forget()

    def _unknown(self, words: Sequence[str], *, near: bool) -> list[str]:
        known = self._near if near else self._frequencies
        return [word for word in words if word not in known]

    def _forget(self) -> None:
        self._counted = None
        self._frequencies.clear()
        self._near.clear()


def _completed(new: ShardDescription, old: ShardDescription | None) -> ShardDescription:
    """The words that were counted in the same state stay known."""
    if old is None or old.state != new.state or new.words is not None:
        return new
    return new.model_copy(update={"words": old.words})
