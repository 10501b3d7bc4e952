"""Where tokens begin: what splitters measure passages with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixrag.corpus.splitters.words import UNSPACED, WORD

Starts = npt.NDArray[np.int64]
"""(T,) offsets of the first characters of the tokens of a text, in ascending order."""
_LONG, _STEP = 24, 4


class Tokens(Protocol):
    """The tokens of an encoder."""

    @property
    def name(self) -> str:
        """Short; changes whenever ``starts`` or ``limit`` would. Empty for an estimate."""
        ...

    @property
    def limit(self) -> int | None:
        """How many tokens of a passage the encoder reads, its special tokens not counted; None: all."""
        ...

    def starts(self, texts: Sequence[str]) -> list[Starts]:
        """Of each text, where its tokens begin."""
        ...

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Of each text, how many tokens the encoder would have to read."""
        ...


class PatternTokens:
    """What a regular expression finds; without a limit."""

    name = ""
    limit = None

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def starts(self, texts: Sequence[str]) -> list[Starts]:
        """See ``Tokens.starts``."""
        found = (self._pattern.finditer(text) for text in texts)
        return [np.fromiter((match.start() for match in matches), np.int64) for matches in found]

    def counts(self, texts: Sequence[str]) -> list[int]:
        """See ``Tokens.counts``."""
        return [len(starts) for starts in self.starts(texts)]


ESTIMATED = PatternTokens(re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]{{1,4}}|[^\w\s]"))
"""About the tokens of a language model: four letters, one other sign, or one Chinese or Japanese character."""
WORDS = PatternTokens(WORD)
"""The words of ``count_words``."""


def filled(starts: Starts, length: int) -> Starts:
    """The starts, with further ones inside every stretch of more than 24 characters that has none.

    Tokenizers read a long run without spaces, or a word with an unknown letter, as one token, and drop some
    characters: measured by such tokens a passage would grow without bound.
    """
    borders = np.concatenate(([0], starts, [length]))
    gaps = np.flatnonzero(np.diff(borders) > _LONG)
    if not len(gaps):
        return starts
    more = [np.arange(borders[gap] + _STEP, borders[gap + 1], _STEP) for gap in gaps]
    return np.sort(np.concatenate((starts, *more)))
