"""Synthetic passages and questions of words whose frequencies follow Zipf's law, like those of a language."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LENGTH, ASKED = 100, 10
_SYLLABLES = [first + vowel for first in "bcdfghklmnprtvwz" for vowel in "aiou"]


@dataclass(frozen=True)
class Vocabulary:
    """Words in the order of their frequency: the r-th has one proportional to 1 / (r + 2)."""

    words: npt.NDArray[np.str_]
    cumulative: npt.NDArray[np.float64]

    @classmethod
    def of(cls, passages: int) -> Vocabulary:
        """As many words as texts of that size have (Heaps' law)."""
        size = int(40 * (passages * LENGTH) ** 0.5)
        shares = 1.0 / (np.arange(size) + 2.0)
        return cls(np.array([_spelled(rank) for rank in range(size)]), np.cumsum(shares / shares.sum()))

    def texts(self, count: int, length: int, seed: int) -> Iterator[str]:
        """Texts of ``length`` words; the same ones for the same seed."""
        for block in self.drawn(count, length, seed):
            for row in self.words[block]:
                yield " ".join(row.tolist())

    def drawn(self, count: int, length: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """The numbers of the words of these texts, in blocks (B, length)."""
        random = np.random.default_rng(seed)
        for start in range(0, count, 4096):
            yield np.searchsorted(self.cumulative, random.random((min(4096, count - start), length)))


def _spelled(rank: int) -> str:
    """Syllables, with an ending that no stemmer takes away."""
    word = ""
    while rank >= 0:
        rank, last = divmod(rank, len(_SYLLABLES))
        word, rank = _SYLLABLES[last] + word, rank - 1
    return f"{word}rk"
