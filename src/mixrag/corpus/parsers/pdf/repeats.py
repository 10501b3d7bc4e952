"""Running heads, footers and page numbers: lines that stand at the same place of many pages, digits apart."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mixrag.corpus.parsers.pdf.glyphs import Fragment, PageText, rows_of

_EDGE = 0.15
"""Share of a page's height, at its top and at its bottom, where running heads stand."""
_LINES = 4
_LEAST_PAGES = 3
_NUMBER = re.compile(r"\d+")
_SENTENCE = re.compile(r"^(?:\S+ ){5,}.*[.!?](?: |$)|[.!?] (?:\S+ ){4,}")
_ROMAN = re.compile(r"[ivxlc]{1,7}")

Key = tuple[str, int, int]
"""Text with 0 for each number, place from the top in steps of 4 points, 0 for the top and 1 for the bottom."""


@dataclass(frozen=True, slots=True)
class _Line:
    key: Key
    numbers: tuple[int, ...]
    page: int
    fragments: tuple[Fragment, ...]
    is_sentence: bool = False


class RunningHeads:
    """Removes running heads from pages that come some tens at a time, and counts the lines."""

    def __init__(self) -> None:
        self.lines = 0
        self.pages: set[int] = set()
        self._known: dict[Key, list[_Line]] = {}

    def remove(self, pages: Sequence[PageText], first: int) -> None:
        """Remove them from these pages, whose numbers begin at ``first``."""
        edges = [self._edge_lines(page, number) for number, page in enumerate(pages, start=first)]
        seen: dict[Key, list[_Line]] = defaultdict(list)
        for key, lines in self._known.items():
            seen[key] += lines
        for sides in edges:
            for side in sides:
                for line in side:
                    for key in _near(line.key):
                        seen[key].append(line)
        few = len(pages) + first - 1 < _LEAST_PAGES
        for page, sides in zip(pages, edges, strict=True):
            gone: set[int] = set()
            count = 0
            for side in sides:
                for line in side:  # from the edge inwards; what stands inside of a line that stays, stays
                    if not _repeated(line, seen[line.key], 2 if few and len(pages) > 1 else _LEAST_PAGES):
                        break
                    gone.update(map(id, line.fragments))
                    count += 1
            rest = [f for f in page.fragments if id(f) not in gone]
            if rest and count:  # what is all that a page says is no running head
                page.fragments = rest
                self.lines += count
                self.pages.add(sides[0][0].page if sides[0] else sides[1][0].page)
        # The last pages stand for those before when the next ones come; their fragments are not needed.
        late = first + len(pages) - 4
        self._known = {
            key: [_Line(x.key, x.numbers, x.page, ()) for x in lines if x.page >= late]
            for key, lines in seen.items()
        }
        self._known = {key: lines for key, lines in self._known.items() if lines}

    @staticmethod
    def _edge_lines(page: PageText, number: int) -> tuple[list[_Line], list[_Line]]:
        rows = rows_of(page.fragments)
        height = page.bottom - page.top
        top: list[_Line] = []
        for place, row in enumerate(rows[:_LINES]):
            if (
                row[0].grid
                or row[0].y - page.top > _EDGE * height
                or _joins_body(row, rows[place + 1 : place + 2])
            ):
                break
            top.append(_line(row, page, number, 0))
        bottom: list[_Line] = []
        for place, row in enumerate(rows[::-1][:_LINES]):
            if row[0].grid or page.bottom - row[0].y > _EDGE * height or len(rows) - place <= len(top):
                break
            bottom.append(_line(row, page, number, 1))
        return top, bottom


def _joins_body(row: list[Fragment], below: list[list[Fragment]]) -> bool:
    """Whether a row of several cells stands close to the next one: the headers of a table that goes on."""
    return len(row) > 2 and bool(below) and below[0][0].y - row[0].y < 2 * row[0].size and len(below[0]) > 2


def _line(row: list[Fragment], page: PageText, number: int, side: int) -> _Line:
    text = " ".join(f.text for f in row)
    numbers = tuple(int(n[:9]) for n in _NUMBER.findall(text))
    plain = _NUMBER.sub("0", text)
    if _ROMAN.fullmatch(plain):
        plain, numbers = "0", ()
    # An even page has its number on the other side.
    plain = " ".join(sorted(plain.split()))
    return _Line(
        (plain, round((row[0].y - page.top) / 4), side), numbers, number, tuple(row), bool(_SENTENCE.search(text))
    )


def _near(key: Key) -> tuple[Key, ...]:
    text, place, side = key
    return (text, place - 1, side), key, (text, place + 1, side)


def _repeated(line: _Line, others: list[_Line], least: int) -> bool:
    """Whether the line stands on enough pages, its numbers the same on all or going up with the page."""
    if line.is_sentence and line.numbers:
        return False
    pages = {other.page for other in others}
    if len(pages) < least:
        return False
    if not line.key[0].strip("0 .-–—|/"):  # nothing but numbers: one, that goes up with the page
        if not line.numbers:
            return True
        return len(line.numbers) == 1 and _goes_with_page(line, others, 0, constant=False, least=least)
    return all(
        _goes_with_page(line, others, place, constant=True, least=least) for place in range(len(line.numbers))
    )


def _goes_with_page(line: _Line, others: list[_Line], place: int, *, constant: bool, least: int) -> bool:
    same = [o for o in others if len(o.numbers) == len(line.numbers)]
    offsets = Counter(o.numbers[place] - o.page for o in same)
    if offsets[line.numbers[place] - line.page] >= min(least, 2):
        return True
    values = Counter(o.numbers[place] for o in same)
    return constant and values[line.numbers[place]] >= min(least, 2)
