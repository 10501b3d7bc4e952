"""Words of the corpus that a misspelt word of a question may stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rapidfuzz import process
from rapidfuzz.distance import OSA

SHORTEST = 4
"""Shorter words are too near too many others."""
_TWO = 8
"""Characters from which on two slips are allowed: a letter too many, missing, wrong, or swapped with the next."""
_CONSIDERED = 64


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

        Args:
            word: that no passage has.
            frequency: number of a word to the passages that have it; a word with none is left out.
        """
        if len(word) < SHORTEST or not word.isalpha():
            return None
        slips = 2 if len(word) >= _TWO else 1
        lengths = range(len(word) - slips, len(word) + slips + 1)
        near = [pair for length in lengths for pair in self._by_length.get(length, ())]
        found = process.extract(
            word, [term for term, _ in near], scorer=OSA.distance, score_cutoff=slips, limit=_CONSIDERED
        )
        ranked = ((distance, -frequency(near[place][1]), near[place][1]) for _, distance, place in found)
        return min((each for each in ranked if each[1]), default=(0, 0, None))[2]
