"""Blocks of a text whose parser gave none, or gave what cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mixrag.corpus.passage import Block
from mixrag.corpus.splitters.sentences import trimmed

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


def paragraphs(text: str, start: int = 0, end: int | None = None) -> Iterator[Block]:
    """Paragraphs of a stretch of text: what blank lines separate."""
    stop = len(text) if end is None else end
    for match in _BLANK_LINE.finditer(text, start, stop):
        if span := trimmed(text, start, match.start()):
            yield Block(*span)
        start = match.end()
    if span := trimmed(text, start, stop):
        yield Block(*span)


def complete(text: str, blocks: Sequence[Block]) -> Iterator[Block]:
    """The blocks in order, disjoint, without whitespace at their ends; what they leave out becomes paragraphs."""
    done = 0
    for block in sorted(blocks, key=lambda each: each.start):
        start, end = max(block.start, done), min(block.end, len(text))
        if start >= end:
            continue
        yield from paragraphs(text, done, start)
        if span := trimmed(text, start, end):
            yield replace(block, start=span[0], end=span[1])
        done = end
    yield from paragraphs(text, done)
