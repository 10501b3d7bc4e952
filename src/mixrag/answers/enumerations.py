"""The enumeration that a span stands in: the lines of a list, a column of a table, or "A, B and C" in a sentence.

Text alone decides, and where it is not clear nothing is found: an item of a list is extended to the others only if
it is one item from its beginning, and a part of a sentence only if it ends where a comma or "and" divides it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mixrag.corpus.splitters.protocol import Offsets
from mixrag.corpus.splitters.sentences import sentences

MOST_WORDS = 8
"""Of an item in a sentence; a longer one is a clause."""
_MARKER = re.compile(r"[ \t]*(?:[-*•–·▪‣◦]|\d{1,2}[.)]|[a-zA-Z][.)]|\([a-z0-9]{1,4}\))[ \t]+")
_KIND = re.compile(r"\d+|[a-zA-Z]+")
_CELL = re.compile(r"[^|\n]+")
_HEADER = re.compile(r"[^:|]{1,60}: ")
_DIVIDER = re.compile(r"(?:,|;)\s+(?:and\s+|or\s+|as well as\s+)?|\s+(?:and|or|as well as)\s+")
_LAST = re.compile(r"and|or|as well as")
"""In the divider before the last item."""
_BEFORE = re.compile(
    r"(?::|\b(?:are|is|were|was|be|include|includes|including|included|of|by|with|for|to|from|as|namely|contain"
    r"|contains|cover|covers|comprise|comprises|has|have|had|at|in|on|between|both|either|need|needs|require"
    r"|requires|measured|measures|bring))\s+",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\s*(?:[.:;!?()]|\b(?:which|who|that|where|when|while|after|before|because|if|unless|is|are|was|were|must|may"
    r"|can|shall|will|have|has|had|in|on|at|by|from|with|under|within|during|for|to)\b)"
)
_ARTICLE = re.compile(r"(?:the|a|an)\s+", re.IGNORECASE)


def enumeration(text: str, start: int, end: int) -> tuple[Offsets, ...]:
    """The spans of all items of the enumeration in which text[start:end] is one item, or which it is itself.

    Empty where it stands in none.

    >>> text = "It is open to members, guests and staff of the bank."
    >>> [text[a:b] for a, b in enumeration(text, 15, 22)]
    ['members', 'guests', 'staff of the bank']
    """
    start, end = _bare(text, start, end)
    for found in (_inside(text, start, end), _lines(text, start, end), _column(text, start, end)):
        if found:
            return found
    return _coordination(text, start, end)


def _bare(text: str, start: int, end: int) -> Offsets:
    """The span without an article, and without white space and punctuation at its ends."""
    part = text[start:end]
    start += len(part) - len(part.lstrip(" \t\n,;:"))
    end = start + len(text[start:end].rstrip(" \t\n,;:."))
    article = _ARTICLE.match(text, start, end)
    return (article.end() if article else start), end


def _inside(text: str, start: int, end: int) -> tuple[Offsets, ...]:
    """The items of a span that is an enumeration itself: "A, B and C", or "A and B"."""
    found = [*_DIVIDER.finditer(text, start, end)]
    if not found or not _LAST.search(found[-1][0]):
        return ()
    return _cut(text, start, end, found)


def _cut(text: str, start: int, end: int, dividers: Sequence[re.Match[str]]) -> tuple[Offsets, ...]:
    """The parts between dividers; none where a part is empty or too long."""
    borders = [start, *(place for divider in dividers for place in divider.span()), end]
    parts = [*zip(borders[::2], borders[1::2], strict=True)]
    fine = all(0 < len(text[a:b].split()) <= MOST_WORDS for a, b in parts)
    return tuple(parts) if fine else ()


def _lines(text: str, start: int, end: int) -> tuple[Offsets, ...]:
    """The items of a list of lines with markers, if the span begins one of them."""
    lines = _line_spans(text)
    own = next((i for i, (a, b) in enumerate(lines) if a <= start and end <= b), None)
    if own is None:
        return ()
    items = [_item(text, *line) for line in lines]
    first = last = own
    mark = items[own] and _kind(text, lines[own][0])
    while first > 0 and items[first - 1] and _kind(text, lines[first - 1][0]) == mark:
        first -= 1
    while last + 1 < len(lines) and items[last + 1] and _kind(text, lines[last + 1][0]) == mark:
        last += 1
    found = [item for item in items[first : last + 1] if item]
    mine = items[own]
    if mine is None or len(found) < 2:
        return ()
    article = _ARTICLE.match(text, mine[0], mine[1])
    if start not in (mine[0], article.end() if article else mine[0]):
        return ()
    if text[end : mine[1]].lstrip().startswith((":", "–", "—", "(")):  # the heads of the items alone
        return tuple(_head(text, *item) for item in found)
    return tuple(found)


def _line_spans(text: str) -> list[Offsets]:
    return [(match.start(), match.end()) for match in re.finditer(r"[^\n]+", text)]


def _item(text: str, start: int, end: int) -> Offsets | None:
    """The item of a line without its marker and the punctuation after it; None without a marker."""
    marker = _MARKER.match(text, start, end)
    if marker is None:
        return None
    body = text[marker.end() : end].rstrip(" \t.;,")
    body = re.sub(r"[;,]\s+(?:and|or)$", "", body)
    return (marker.end(), marker.end() + len(body)) if body else None


def _kind(text: str, start: int) -> str:
    """A marker with its number or letter as one sign: "1." and "2." are of one kind."""
    marker = _MARKER.match(text, start)
    return _KIND.sub(lambda each: "0" if each[0].isdigit() else "a", marker[0].strip()) if marker else ""


def _head(text: str, start: int, end: int) -> Offsets:
    head = re.match(r"[^:–—(]+", text[start:end])
    return (start, start + len(head[0].rstrip())) if head else (start, end)


def _column(text: str, start: int, end: int) -> tuple[Offsets, ...]:
    """The cells of the column whose cell, without the header in it, is the span."""
    rows = [_cells(text, *line) for line in _line_spans(text)]
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if len(row) > 1 and cell == (start, end):
                first, last = i, i
                while first > 0 and len(rows[first - 1]) == len(row):
                    first -= 1
                while last + 1 < len(rows) and len(rows[last + 1]) == len(row):
                    last += 1
                found = tuple(each[j] for each in rows[first : last + 1])
                return found if len(found) > 1 else ()
    return ()


def _cells(text: str, start: int, end: int) -> list[Offsets]:
    """The cells of a row of a table ("Wool | 2023: 12"), each without its header."""
    found = []
    for match in _CELL.finditer(text, start, end):
        a, b = match.span()
        header = _HEADER.match(text, a, b)
        a = header.end() if header else a
        part = text[a:b]
        a += len(part) - len(part.lstrip())
        found.append((a, a + len(part.strip())))
    return found


def _coordination(text: str, start: int, end: int) -> tuple[Offsets, ...]:
    """The items of "A, B and C" in the sentence of the span, if it is one of at least three."""
    sentence = next(((a, b) for a, b in sentences(text, 0, len(text)) if a <= start and end <= b), None)
    if sentence is None:
        return ()
    dividers = [d for d in _DIVIDER.finditer(text, *sentence) if d.end() <= start or d.start() >= end]
    borders = [sentence[0], *(place for divider in dividers for place in divider.span()), sentence[1]]
    parts = [*zip(borders[::2], borders[1::2], strict=True)]
    ends = [_LAST.search(divider[0]) is not None for divider in dividers]
    own = sum(divider.end() <= start for divider in dividers)
    final = own if own and ends[own - 1] else next((i + 1 for i in range(own, len(ends)) if ends[i]), None)
    if final is None:
        return ()
    first = _first(text, parts, ends, own, start)
    if final - first < 2 or (final > own and parts[own][1] != end):
        return ()
    begin = start if first == own else _beginning(text, *parts[first])
    stop = end if final == own else _ending(text, *parts[final])
    return _cut(text, begin, stop, dividers[first:final])


def _first(text: str, parts: Sequence[Offsets], ends: Sequence[bool], own: int, start: int) -> int:
    """The part that holds the first item: back from the span's own, past no verb, preposition or "and"."""
    article = _ARTICLE.match(text, *parts[own])
    if start not in (parts[own][0], article.end() if article else start):
        return own  # words before the span in its part: it is the first item
    if start != parts[own][0] and article is None:
        return own
    first = own
    while (
        first > 0 and (first == own or not ends[first - 1]) and _beginning(text, *parts[first]) <= parts[first][0]
    ):
        first -= 1
        if first == 0 and _BEFORE.match(text, *parts[0]):  # "In 1931, ..."
            return 1
    return first


def _beginning(text: str, start: int, end: int) -> int:
    """Where an item begins in its part: after the last verb or preposition."""
    found = [match.end() for match in _BEFORE.finditer(text, start, end)]
    return found[-1] if found else start


def _ending(text: str, start: int, end: int) -> int:
    """Where the last item ends in its part: before the next verb, preposition or mark."""
    found = _AFTER.search(text, start, end)
    return found.start() if found and found.start() > start else end
