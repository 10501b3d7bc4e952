"""Where the answer so far occurs in a text, and which tokens continue it there.

An answer is compared with the text by bytes, not by tokens: a token may hold a part of a character, and the text
may be cut into tokens in any way. White space in a row counts as one space.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from mixrag.pairs.matching import words

LONGEST = 48
"""Bytes of the longest token that is looked up; longer ones are never written."""
_BETWEEN = b"\xff"
"""Stands between two texts: no byte of UTF-8, and therefore of no token that is looked up."""


class Vocabulary:
    """Token ids by the bytes that they write.

    Attributes:
        bytes: (V,) as ``token_bytes`` has them.
        ids: the tokens that write exactly these bytes.
    """

    def __init__(self, bytes_of_tokens: Sequence[bytes | None]) -> None:
        self.bytes = bytes_of_tokens
        ids: dict[bytes, list[int]] = {}
        self._longest: dict[bytes, int] = {}  # of the tokens that begin with these two bytes
        for token, each in enumerate(bytes_of_tokens):
            if each and len(each) <= LONGEST and _BETWEEN not in each:
                ids.setdefault(each, []).append(token)
                self._longest[each[:2]] = max(len(each), self._longest.get(each[:2], 0))
        self.ids: Mapping[bytes, Sequence[int]] = ids

    def beginning(self, text: bytes) -> Iterator[int]:
        """The tokens that a text begins with."""
        for length in range(1, min(len(text), self._longest.get(text[:2], 1)) + 1):
            yield from self.ids.get(text[:length], ())


class Source:
    """The texts of one component as bytes, with the places where an answer may begin and end."""

    def __init__(self, texts: Iterable[str], vocabulary: Vocabulary) -> None:
        parts = [" ".join(text.split()) for text in texts]
        self.vocabulary = vocabulary
        self.data = _BETWEEN.join(part.encode() for part in parts)
        self.starts: list[int] = []
        self.ends: set[int] = set()
        offset = 0
        for part in parts:
            offset = self._add_borders(part, offset) + len(_BETWEEN)
        self._known: dict[int, tuple[int, ...]] = {}

    def tokens_at(self, place: int) -> tuple[int, ...]:
        """The tokens whose bytes stand at this place."""
        if place not in self._known:
            self._known[place] = tuple(self.vocabulary.beginning(self.data[place : place + LONGEST]))
        return self._known[place]

    @cached_property
    def first_tokens(self) -> list[int]:
        """The tokens that an answer may begin with, ascending: those at the starts, after a space or without."""
        found = {token for place in self.starts for token in self.tokens_at(place)}
        for place in self.starts:
            found.update(self.vocabulary.beginning(b" " + self.data[place : place + LONGEST - 1]))
        return sorted(found)

    def _add_borders(self, text: str, offset: int) -> int:
        """Add the offsets of a text where an answer may begin and end; returns the offset after it."""
        before = " "
        for character in text:
            size = len(character.encode())
            if unicodedata.category(character) != "Cf":  # a soft hyphen separates nothing
                if not _in_one_word(before, character):
                    self._add(offset, before, character)
                before = character
            offset += size
        self._add(offset, before, " ")
        return offset

    def _add(self, offset: int, before: str, after: str) -> None:
        if after != " ":
            self.starts.append(offset)
        if before != " ":
            self.ends.add(offset)


@dataclass(frozen=True)
class Occurrences:
    """The answer so far of one row, and all places of its source where it goes on."""

    source: Source
    places: Sequence[int]
    """Offsets in the source's bytes, after the answer so far."""
    begun: bool = False
    """Whether a token has been written."""
    blank: bool = True
    """Whether the answer so far has no text: a space before it is none."""

    @classmethod
    def none_yet(cls, source: Source) -> Occurrences:
        """Before the first token."""
        return cls(source, source.starts)

    @property
    def tokens(self) -> list[int]:
        """The tokens that continue the answer at one of its places, ascending."""
        if not self.begun:
            return self.source.first_tokens
        return sorted({token for place in self.places for token in self.source.tokens_at(place)})

    @property
    def may_end(self) -> bool:
        """Whether the answer may end here: before its first token, or where an occurrence ends with a word."""
        return not self.begun or (not self.blank and any(place in self.source.ends for place in self.places))

    @property
    def possible(self) -> bool:
        """Whether the answer so far occurs anywhere."""
        return not self.begun or bool(self.places)

    def then(self, written: bytes | None) -> Occurrences:
        """The occurrences of the answer with the bytes of one more token; None: of a token without a text."""
        if written is None:
            return replace(self, places=(), begun=True)
        if not self.begun:
            written = written.removeprefix(b" ")  # which separates prompt and answer
        data, size = self.source.data, len(written)
        places = [place + size for place in self.places if data.startswith(written, place)]
        return replace(self, places=places, begun=True, blank=self.blank and not written)


def whole_words(text: str, end: int) -> str:
    """The first ``end`` characters of a text, without a word that goes on after them.

    >>> whole_words("nine crowns", 8), whole_words("nine crowns", 11), whole_words("nine", 2)
    ('nine ', 'nine crowns', '')
    """
    after = next((character for character in text[end:] if unicodedata.category(character) != "Cf"), " ")
    while end and (unicodedata.category(text[end - 1]) == "Cf" or _in_one_word(text[end - 1], after)):
        end -= 1
        after = after if unicodedata.category(text[end]) == "Cf" else text[end]
    return text[:end]


@lru_cache(8192)
def _in_one_word(left: str, right: str) -> bool:
    """Whether no word ends between two neighbouring characters; in scripts without spaces, each is a word."""
    if unicodedata.category(right)[0] == "M":
        return left != " "
    if not right.isalnum() or not (left.isalnum() or unicodedata.category(left)[0] == "M"):
        return False
    return len(words(left + right)) < 2
