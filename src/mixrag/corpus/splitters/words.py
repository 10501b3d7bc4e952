"""Passages of a fixed number of words, and what a word is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mixrag.corpus.splitters.protocol import Context, Offsets, checked_context
from mixrag.errors import SettingError

# Chinese and Japanese put no spaces between words: there, one character counts as a word. Elsewhere a run
# of 100 characters without a space (Thai, base64) counts as one, so that no passage grows without bound.
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters of a class in a regular expression."""
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]{{1,100}}")


def count_words(text: str) -> int:
    """Number of words: runs without whitespace; each Chinese or Japanese character is one."""
    return sum(1 for _ in WORD.finditer(text))


@dataclass(frozen=True, slots=True)
class WordSplitter:
    """Disjoint passages of a fixed number of words, the last one shorter (Lewis et al. 2020).

    >>> WordSplitter(2).split("to be or not")
    [(0, 5), (6, 12)]
    """

    words: int = 100
    context: Context = "full"
    """See ``Context``."""

    def __post_init__(self) -> None:
        check_size(self.words, "word", "words:100")
        checked_context(self.context)

    @property
    def name(self) -> str:
        return f"words:{self.words}"

    def split(self, text: str) -> list[Offsets]:
        spans = [match.span() for match in WORD.finditer(text)]
        groups = (spans[i : i + self.words] for i in range(0, len(spans), self.words))
        return [(group[0][0], group[-1][1]) for group in groups]


def check_size(size: int, unit: str, example: str) -> None:
    """Refuse a number of words or tokens below 1.

    Raises:
        SettingError: it is.
    """
    if size < 1:
        raise SettingError(f"at least 1 {unit} a passage", str(size), f"give a positive number, e.g. {example}")
