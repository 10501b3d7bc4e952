"""How far BM25 may move when passages whose words are unknown join a collection, as pure functions.

n passages join a collection of N. Of a word w of the question, f(w) passages of the collection have it, and g(w)
of those that join, 0 <= g(w) <= n. With K = k₁ + 1:

    ln((N+n+1) / (f(w)+n+½)) <= idf(w) = ln((N+n+1) / (f(w)+g(w)+½)) <= ln((N+n+1) / (f(w)+½))

What the word adds to a passage is c_w idf(w) u with 0 <= u < K. When the mean length changes by a factor σ, u
changes by a factor between 1 and σ, since k₁ (1 - b) >= 0. So the word adds to a passage of the collection at most

    c_w K max(0, idf_old(w) - min(1, σ) idf_low(w))    less than before, and
    c_w K max(0, idf_high(w) - idf_old(w) / max(1, σ)) more.

A word that no passage of the collection has is in at least one afterwards, or adds nothing:
idf(w) <= ln((N+n+1) / (1+½)). Where a misspelt word may stand for others, before and afterwards, each of these
adds between 0 and c_w K ln((N+n+1) / (1+½)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from mixrag.retrieval.lexical.bm25 import K1
from mixrag.retrieval.lexical.index import AskedWord

_MOST = K1 + 1.0


class Change(NamedTuple):
    """Between what BM25 lies after others have joined."""

    below: float
    """A passage of the collection has at most so much less than before,"""
    above: float
    """or so much more."""
    largest: float
    """No passage whatever has more."""


UNKNOWN = Change(math.inf, math.inf, math.inf)
"""Nothing is known of the passages that join."""


def change_of_bm25(
    asked: Sequence[AskedWord], collection: tuple[int, int], joining: tuple[int, int], *, tolerant: bool
) -> Change:
    """The change of BM25 when passages of unknown words join.

    Args:
        asked: the words of the question, with the passages of the collection that have each, which may be none.
        collection: its passages and words.
        joining: passages and words of those that join.
        tolerant: a word that no passage has stands for another one.
    """
    passages = collection[0] + joining[0]
    longer = _factor(collection, joining)
    below, above, largest = 0.0, 0.0, 0.0
    for each in asked:
        most = _MOST * each.weight
        high = _idf(passages, max(1, each.frequency))
        largest += most * high
        if each.frequency:
            before = _idf(collection[0], each.frequency)
            low = _idf(passages, each.frequency + joining[0])
            below += most * max(0.0, before - min(1.0, longer) * low)
            above += most * max(0.0, high - before / max(1.0, longer))
        elif tolerant:
            below, above = below + most * high, above + most * high
    return Change(below, above, largest)


def _idf(passages: int, having: int) -> float:
    """``inverse_frequency``, also of counts that no collection has."""
    return math.log((passages + 1.0) / (having + 0.5))


def _factor(collection: tuple[int, int], joining: tuple[int, int]) -> float:
    """σ: the mean length afterwards over that before; 1 where no passage had a word."""
    (passages, words), (more, more_words) = collection, joining
    return 1.0 if not words else (words + more_words) / (passages + more) / (words / passages)
