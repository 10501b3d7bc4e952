"""Words of the corpus that a misspelt word of a question may stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

from rapidfuzz import process
from rapidfuzz.distance import OSA

SHORTEST = 4
"""Shorter words are too near too many others."""
_TWO = 8
"""Characters from which on two slips are allowed: a letter too many, missing, wrong, or swapped with the next."""
Near = tuple[int, str, int]
"""Slips, a word and its number."""


class Vocabulary:
    """The words of a corpus by length, for words that are none of them."""

    def __init__(self, terms: Iterable[tuple[str, int]]) -> None:
        """``terms``: words and their numbers."""
        self._by_length: dict[int, list[tuple[str, int]]] = {}
        for term, number in terms:
            if len(term) >= SHORTEST - 1 and term.isalpha():
                self._by_length.setdefault(len(term), []).append((term, number))

    def nearest(self, word: str, frequency: Callable[[int], int]) -> int | None:
        """The number of the word with the fewest slips, the most frequent one of those; None where all are far.

        Of equally frequent ones it is the first in the order of the alphabet, whichever was indexed first.

        Args:
            word: that no passage has.
            frequency: number of a word to the passages that have it; a word with none is left out.
        """
        for _, near in groupby(self.within(word), key=lambda each: each[0]):
            ranked = [(-often, term, number) for _, term, number in near if (often := frequency(number))]
            if ranked:
                return min(ranked)[2]
        return None

    def within(self, word: str) -> list[Near]:
        """The words that a misspelt one may stand for, those with the fewest slips first."""
        if len(word) < SHORTEST or not word.isalpha():
            return []
        slips = 2 if len(word) >= _TWO else 1
        lengths = range(len(word) - slips, len(word) + slips + 1)
        near = [pair for length in lengths for pair in self._by_length.get(length, ())]
        found = process.extract(
            word, [term for term, _ in near], scorer=OSA.distance, score_cutoff=slips, limit=None
        )
        return [(int(distance), *near[place]) for _, distance, place in found]
