"""The span of a passage that an answer cites, by its words.

Words are those of ``matching.words``: letters and digits, lower case, compatibility forms as one; a character each
in scripts without spaces; English articles count only in an answer of nothing else. A citation is a statement
about two texts. Which passage *wrote* the answer is a probability, which the mixture computes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import regex

from mixrag.pairs.matching import is_article, words

LEAST_F1 = 2 / 3
"""What a citation has to exceed. Then more than half of the answer's words are in it, and more than half of its
words are the answer's: of two words, one alone ("in" of "in 1920") is not a citation."""

# What a reader sees as one character, with the invisible formatting after it: a soft hyphen does not split a word.
_CHARACTER = regex.compile(r"\X\p{Cf}*")
_SIGNED = re.compile(r"(?<!\S)(?=\S{0,99}(?:\d[.,]\d|\.\d|[-\u2212]|\w[+#]))\S{2,100}(?!\S)")
"""Text without spaces in which a sign may be part of a word: "$1.5", "-5", "C++", "COVID-19"."""


@dataclass(frozen=True, slots=True)
class Citation:
    """The span of a passage that has the words of an answer."""

    start: int
    """Offset of its first character in the passage's text."""
    end: int
    """Offset after its last character."""
    f1: float
    """F1 of its words with the answer's, in (2/3, 1]; 1 where the answer's words occur here in a row."""


@dataclass(frozen=True, slots=True)
class LocatedWord:
    """A word and its position."""

    text: str
    """As ``matching.words`` has it."""
    start: int
    end: int


def cited_span(passage_text: str, answer_text: str) -> tuple[int, int] | None:
    """Character offsets (start, end) of what an answer cites of a passage; see ``citation``.

    >>> text = "It was the Broncos, of Denver, who won."
    >>> start, end = cited_span(text, "broncos of denver")
    >>> text[start:end]
    'Broncos, of Denver'
    """
    found = citation(passage_text, answer_text)
    return None if found is None else (found.start, found.end)


def citation(passage_text: str, answer_text: str) -> Citation | None:
    """The span of a passage that an answer cites; None where they have too little in common.

    That is the first place where the answer's words occur in a row. Where there is none, it is the stretch of
    words with the highest F1 with the answer's (2c / (words here + words there), c of them in common, repeated
    ones as often as both have them), the first among equals; None unless that exceeds ``LEAST_F1``. An answer
    without any letter or digit is found by its characters.

    Takes at most O(words of the passage × words of the answer) steps.
    """
    wanted, here = words(answer_text), located_words(passage_text)
    if bare := [word for word in wanted if not is_article(word)]:
        wanted, here = tuple(bare), [word for word in here if not is_article(word.text)]
    if not wanted:
        # Symbols alone: found by their characters, letter case and spaces aside.
        pattern = r"\s+".join(map(re.escape, answer_text.split()))
        match = re.search(pattern, passage_text, re.IGNORECASE) if pattern else None
        return match and Citation(match.start(), match.end(), 1.0)
    texts = [word.text for word in here]
    found = _in_a_row(texts, wanted) or _closest(texts, wanted)
    if found is None:
        return None
    first, last, f1 = found
    return Citation(here[first].start, here[last].end, f1)


def located_words(text: str) -> list[LocatedWord]:
    """The words of a text with their offsets; words that one sign spells ("½") have the same."""
    found, last = list[LocatedWord](), 0
    for match in _SIGNED.finditer(text):
        found += _plain_words(text, last, match.start())
        found += [LocatedWord(word, match.start() + a, match.start() + b) for word, a, b in _signed(match.group())]
        last = match.end()
    return [*found, *_plain_words(text, last, len(text))]


def _plain_words(text: str, start: int, end: int) -> Iterator[LocatedWord]:
    for first, last in _pieces(text[start:end]):
        piece = text[start + first : start + last]
        begin = start + last - len(piece.lstrip())  # a mark after a space is one character with it
        yield from (LocatedWord(word, begin, start + last) for word in words(piece))


@lru_cache(4096)
def _signed(chunk: str) -> tuple[tuple[str, int, int], ...]:
    """The words of a short text without spaces, each with the shortest span that spells it where it stands."""
    every, found, end = words(chunk), list[tuple[str, int, int]](), 0
    while len(found) < len(every):
        end += 1
        before = words(chunk[:end])
        if len(before) > len(found) and before == every[: len(before)]:
            new = before[len(found) :]
            start = next(i for i in range(end - 1, -1, -1) if words(chunk[i:end])[-len(new) :] == new)
            found += [(word, start, end) for word in new]
    return tuple(found)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """The text cut wherever two neighbouring characters are not of one word."""
    start, before = 0, ""
    for match in _CHARACTER.finditer(text):
        if not _in_one_word(before, match.group()):
            yield start, match.start()
            start = match.start()
        before = match.group()
    yield start, len(text)


@lru_cache(4096)
def _in_one_word(left: str, right: str) -> bool:
    return words(left + right) != words(left) + words(right)


def _in_a_row(texts: Sequence[str], wanted: Sequence[str]) -> tuple[int, int, float] | None:
    """First and last word of the first place that has exactly the wanted ones."""
    joined = f" {' '.join(texts)} "
    at = joined.find(f" {' '.join(wanted)} ")
    if at < 0:
        return None
    first = joined.count(" ", 0, at)
    return first, first + len(wanted) - 1, 1.0


def _closest(texts: Sequence[str], wanted: Sequence[str]) -> tuple[int, int, float] | None:
    """First and last word of the stretch with the highest F1 above ``LEAST_F1``, and that F1."""
    asked, best, found = Counter(wanted), LEAST_F1, None
    hits = [i for i, text in enumerate(texts) if text in asked]  # it starts and ends at one, or F1 would rise
    for n, first in enumerate(hits):
        missing, common = asked.copy(), 0
        for last in hits[n:]:
            both = last - first + 1 + len(wanted)
            if 2 * len(wanted) / both <= best:
                break  # not even with all of them in common, nor for any longer stretch
            common += missing[texts[last]] > 0
            missing[texts[last]] -= 1
            if 2 * common / both > best:
                best, found = 2 * common / both, (first, last)
    return None if found is None else (*found, best)
