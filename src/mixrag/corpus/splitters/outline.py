"""What stands around each passage: the page and place where it starts, and the headings above it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mixrag.corpus.passage import Block, Document
from mixrag.corpus.splitters.protocol import Context
from mixrag.corpus.splitters.sentences import sentences

_HEADING, _PATH, _CAPTION, _LEAD = 100, 240, 400, 200
"""Characters of one heading, of all of them, of a caption, and of a table's introduction that are put before a
passage."""
_INTRODUCES = re.compile(r"[:：]$|\b(?:following|below|tables?|tabellen?|tableaux?|tablas?)\b", re.IGNORECASE)
_ANNOUNCES = re.compile(
    r"as follows|[:：]$|\b(?:following|below)\b.*\btables?\b|\btables?\b.*\b(?:following|below)\b"
    r"|\btables? (?:shows?|presents?|sets? (?:out|forth)|summari[sz]es?|provides?|details?)\b"
    r"|\b(?:folgende|nachfolgende|nachstehende|suivante?|siguiente)\b",
    re.IGNORECASE,
)
_BACK = 8
"""Blocks before a table among which the sentence that announces it is looked for."""
SEPARATOR = " › "
"""Between headings, from the highest to the nearest."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of a passage; see the fields of ``Passage``."""

    page: int | None = None
    place: str = ""
    context: str = ""


class Outline:
    """The blocks of a document, ready to be asked about."""

    def __init__(self, document: Document, context: Context) -> None:
        self.title_read = document.title if context != "none" else ""
        """The title, where encoder and BM25 read it."""
        self.context = context
        self._blocks = sorted(document.blocks, key=lambda block: block.start)
        self._starts = [block.start for block in self._blocks]
        self._text = document.text
        self._introductions: dict[int, str] = {}
        self._paths = list(_paths(document, self._blocks)) if context == "full" else []

    def at(self, start: int) -> Surroundings:
        """The surroundings of a passage that starts at this offset."""
        index = bisect_right(self._starts, start) - 1
        if index < 0:
            return Surroundings()
        block = self._blocks[index]
        if self.context != "full":
            return Surroundings(block.page, block.place)
        inside = block.caption if block.start < start < block.end else ""
        lines = [self._path(index), self._introduction(index), _shortened(inside, _CAPTION)]
        return Surroundings(block.page, block.place, "\n".join(filter(None, lines)))

    def longest_front(self, start: int, end: int, captions: Sequence[str]) -> str:
        """Title and context of the passages between two offsets, under one heading, with the longest caption."""
        if self.context != "full":
            return self.title_read
        caption = max(captions, key=len, default="")
        index = bisect_right(self._starts, start) - 1
        inside = range(max(0, index), bisect_right(self._starts, end - 1))
        introduction = max((self._introduction(index) for index in inside), key=len, default="")
        lines = [self.title_read, self._path(index) if index >= 0 else ""]
        return "\n".join(filter(None, [*lines, introduction, _shortened(caption, _CAPTION)]))

    def _introduction(self, index: int) -> str:
        """The sentence that introduces a table: "The fees are, in crowns:"; empty where there is none.

        It is the last one before the table, or the nearest before it that announces a table.
        """
        if self._blocks[index].kind != "table":
            return ""
        if index not in self._introductions:
            self._introductions[index] = next(self._introducing(index), "")
        return self._introductions[index]

    def _introducing(self, index: int) -> Iterator[str]:
        for distance, before in enumerate(reversed(self._blocks[max(0, index - _BACK) : index])):
            if before.kind in {"heading", "table"}:
                return
            spans = list(sentences(self._text, before.start, before.end))
            for last, (start, end) in enumerate(reversed(spans)):
                sentence = " ".join(self._text[start:end].split())
                pattern = _ANNOUNCES if distance or last else _INTRODUCES
                if len(sentence) <= _LEAD and pattern.search(sentence):
                    yield sentence

    def _path(self, index: int) -> str:
        block, path = self._blocks[index], self._paths[index]
        if block.page is None and block.place and not any(block.place.endswith(text) for text in path):
            path = (*path, block.place)
        return _joined(path)


def _paths(document: Document, blocks: Sequence[Block]) -> list[tuple[str, ...]]:
    """The headings above each block, from the highest; without one that only repeats the title."""
    above: list[tuple[int, str]] = []
    found = []
    title = document.title.casefold()
    for block in blocks:
        if block.kind == "heading":
            above = [(level, text) for level, text in above if level < block.level]
        found.append(tuple(text for _, text in above if text.casefold() != title))
        if block.kind == "heading":
            text = " ".join(document.text[block.start : block.end].split())
            above = [*above, (block.level, _shortened(text, _HEADING))]
    return found


def _joined(path: Sequence[str]) -> str:
    """The nearest headings that are short enough together."""
    while len(path) > 1 and sum(map(len, path)) > _PATH:
        path = path[1:]
    return SEPARATOR.join(path)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
