"""The words of a question over all shards: how many passages have them, and which stands for a misspelt one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mixrag.retrieval.lexical import AskedWord
from mixrag.retrieval.lexical.bm25 import K1, inverse_frequency
from mixrag.retrieval.shards.exchange import Statistics


def asked_of_all(asked: Mapping[str, float], found: Sequence[Statistics], *, tolerant: bool) -> list[AskedWord]:
    """The words of a question that passages have, as ``LexicalIndex`` finds them in one store of all passages.

    Args:
        asked: words and their weights, in the order of the question.
        found: of every shard, for these words; for a misspelt one also the words near it.
        tolerant: a word that no shard has stands for the nearest one.
    """
    chosen: dict[str, AskedWord] = {}
    for word, weight in asked.items():
        often = sum(each.frequencies.get(word, 0) for each in found)
        if not often and tolerant:
            word, often = _nearest(word, found)
        if often:
            before = chosen[word].weight if word in chosen else 0.0
            chosen[word] = AskedWord(word, max(weight, before), often)
    return [*chosen.values()]


def counted_words(asked: Mapping[str, float], found: Sequence[Statistics]) -> list[AskedWord]:
    """All words of a question as they are, with their frequencies over these shards, which may be 0."""
    return [
        AskedWord(word, weight, sum(each.frequencies.get(word, 0) for each in found))
        for word, weight in asked.items()
    ]


def largest_bm25(words: Sequence[AskedWord], passages: int) -> float:
    """No passage of counted shards has a larger BM25: each word without end, in the shortest passage."""
    return sum(each.weight * inverse_frequency(passages, each.frequency) * (K1 + 1.0) for each in words)


def _nearest(word: str, found: Sequence[Statistics]) -> tuple[str, int]:
    """The word with the fewest slips; of those the most frequent one; of those the first by the alphabet."""
    slips: dict[str, int] = {}
    often: defaultdict[str, int] = defaultdict(int)
    for each in found:
        for distance, near, frequency in each.near.get(word, ()):
            slips[near], often[near] = distance, often[near] + frequency
    ranked = min(((slips[near], -often[near], near) for near in slips if often[near]), default=(0, 0, ""))
    return ranked[2], -ranked[1]
