"""What the shards said to one question, and which of them said nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mixrag.retrieval.lexical import AskedWord
from mixrag.retrieval.shards.exchange import ShardDescription, ShardReply
from mixrag.retrieval.shards.protocol import Shard


@dataclass(frozen=True)
class Missing:
    """A shard that did not answer."""

    name: str
    reason: str
    description: ShardDescription | None
    """The last that is known of it."""
    counted: bool = False
    """Whether the frequencies of words have its passages, too: it gave them in the state of the description."""


@dataclass(frozen=True)
class Answers:
    """What the shards said to one question."""

    shards: Sequence[Shard]
    replies: Mapping[int, ShardReply]
    missing: Mapping[int, Missing]
    asked: Sequence[AskedWord]
    """All words of the question, with their frequencies over the shards that said them, which may be 0."""
    words: Sequence[AskedWord]
    """The words that passages of those shards have, some of them in the place of misspelt ones."""
    collection: tuple[int, int]
    """Passages and words of those shards."""

    @property
    def matches(self) -> bool:
        """Whether a passage that the filter lets through, in a shard that answered, shares a word."""
        return any(reply.matches for reply in self.replies.values())

    @property
    def count(self) -> int:
        """Passages that the filter lets through, in the shards that answered."""
        return sum(reply.count for reply in self.replies.values())

    @property
    def uncounted(self) -> list[Missing]:
        """The missing shards whose words are unknown."""
        return [each for each in self.missing.values() if not each.counted]
