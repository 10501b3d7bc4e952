"""Columns of a table of a PDF: the stretches of the page that its numbers cover, and the headers above them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from mixrag.corpus.parsers.pdf.cells import Cell, Row

_HEADER_ROWS = 8
LABELS_BETWEEN = 5
_PERIOD_WORDS = re.compile(
    r"\b(?:ended|ending|as (?:of|at)|months|weeks|fiscal|years?|quarters?|december|june|march|january)\b",
    re.I,
)
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_MARK = re.compile(r"\(?\d{1,2}\)?")
_NOTE = re.compile(r"\(\d\)")
_UNITS = re.compile(
    r"^\(.*\)$|\b(?:in|amounts in) (?:thousands|millions|billions)\b|^[$€£]\s?(?:m|bn|000|’000)\b", re.I
)


@dataclass(slots=True)
class Column:
    """Stretch of the page's width that the numbers of a column cover."""

    x0: float
    x1: float
    headers: list[str] = field(default_factory=list)

    @property
    def center(self) -> float:
        """Half way between its edges."""
        return (self.x0 + self.x1) / 2

    def overlap(self, x0: float, x1: float) -> float:
        """Width that it shares with another stretch; negative: the gap between them."""
        return min(self.x1, x1) - max(self.x0, x0)


def has_number(row: Row) -> bool:
    """Whether a number stands beside something else, or alone."""
    first = first_value(row)
    numbers = [cell for cell in row.cells[first:] if cell.is_number]
    if not numbers or (first == 0 and not all(cell.is_value for cell in row.cells)):
        return False
    others = [cell for cell in row.cells[first:] if not cell.is_value or cell.is_period]
    return not (others and all(_MARK.fullmatch(cell.text) for cell in numbers))


def values(row: Row) -> list[Cell]:
    return [cell for cell in row.cells[first_value(row) :] if cell.is_value]


def first_value(row: Row) -> int:
    """Where the cells behind the label begin; a year or a mark such as (4) in front of numbers is a label."""
    first = row.cells[0]
    return int(len(row.cells) > 1 and (not first.is_value or first.is_period or bool(_NOTE.fullmatch(first.text))))


def place(columns: list[Column], cell: Cell) -> int:
    """The column that the cell shares most with, or is nearest to."""
    return max(
        range(len(columns)), key=lambda i: (columns[i].overlap(cell.x0, cell.x1), -abs(columns[i].x1 - cell.x1))
    )


def headers_above(
    rows: Sequence[Row], start: int, free: int, columns: list[Column]
) -> tuple[int, list[Row], int, str]:
    """First row of the table, its headers from the top down, first row below them, and what stands beside them."""
    left, right = columns[0].x0, columns[-1].x1
    slack = 0.6 * _pitch(columns)
    beside: list[str] = []
    heads: list[Row] = []
    first, top, labels = start, start, 0
    for at in range(start - 1, max(free, start - _HEADER_ROWS - LABELS_BETWEEN) - 1, -1):
        row, below = rows[at], rows[at + 1]
        if below.y - row.y > (3 if not heads else 2.2) * max(row.size, below.size) or has_number(row):
            break
        label_x0 = min(rows[start].x0, row.x0)
        border = label_x0 + 0.35 * (left - label_x0) if rows[start].x0 < left else left - 6 * row.size
        over = [c for c in row.cells if border < c.x0 < right + row.size and c.x1 > left - slack]
        side = [c for c in row.cells if c not in over]
        if not over:
            if len(row.cells) == 1 and row.x1 < left + row.size and not heads and labels < LABELS_BETWEEN:
                if _UNITS.search(row.text):
                    beside.insert(0, row.text)
                labels += 1
                continue
            if heads and len(row.cells) == 1 and _UNITS.search(row.text) and len(row.text) < 120:
                beside.insert(0, row.text)
                first = at
            break
        if any(cell.x1 > left for cell in side) or any(len(c.text) > 80 for c in over):
            break
        if heads and len(over) == 1 and len(columns) > 1 and over[0].x1 - over[0].x0 > 1.15 * (right - left):
            break
        if len(over) == 1 and _UNITS.search(over[0].text) and len(columns) > 1:
            side, over = [*side, *over], []
        if side:
            beside.insert(0, " ".join(c.text for c in side))
        if not heads:
            top = at + 1  # labels between the headers and the first number are rows of the table
        if over:
            heads.insert(0, Row(over, row.y, row.size, row.bold, row.text))
        first = at
    if not heads:
        return start, [], start, ""
    return first, heads, top, "; ".join(dict.fromkeys(beside))


def _pitch(columns: list[Column]) -> float:
    """The distance of the columns' right edges; the widest, since headers stand in the middle of wide columns."""
    steps = [b.x1 - a.x1 for a, b in pairwise(columns)]
    return max(steps, default=4 * (columns[0].x1 - columns[0].x0))


def assign(row: Row, columns: list[Column]) -> None:
    """Give each column what of the row stands over it."""
    taken: set[int] = set()
    groups: list[tuple[Cell, range]] = []
    for cell in row.cells:
        over = _below(cell, columns)
        if len(row.cells) == len(columns) and len(over) == 1:
            over = [len(groups)]
        groups.append((cell, range(over[0], over[-1] + 1)))
        taken.update(range(over[0], over[-1] + 1))
    alone = len(groups) == 1
    for cell, below in groups:
        for i in _widened(cell, below, taken, columns, alone):
            if cell.text not in columns[i].headers:
                columns[i].headers.append(cell.text)


def _below(cell: Cell, columns: list[Column]) -> list[int]:
    """The columns that a header covers, or the one in whose share of the table's width its middle lies."""
    shares = [max(0.0, c.overlap(cell.x0, cell.x1)) / max(c.x1 - c.x0, 1) for c in columns]
    most = max(shares)
    if most > 0:
        return [i for i, share in enumerate(shares) if share > 0.4 * most]
    center = (cell.x0 + cell.x1) / 2
    return [next((i for i, c in enumerate(columns) if center < c.x1), len(columns) - 1)]


def _widened(cell: Cell, over: range, taken: set[int], columns: list[Column], alone: bool) -> range:
    """The columns below a header that spans several: those around it that it stands in the middle of."""
    center = (cell.x0 + cell.x1) / 2
    spans = len(over) > 1 or bool(_PERIOD_WORDS.search(cell.text) and not _YEAR.search(cell.text))
    if not spans:
        return over
    low, high = over[0], over[-1]
    while low > 0 and low - 1 not in taken:
        low -= 1
    while high < len(columns) - 1 and high + 1 not in taken:
        high += 1
    groups = [range(i, j + 1) for i in range(low, over[0] + 1) for j in range(over[-1], high + 1)]
    off = min(_off_center(center, columns, group) for group in groups)
    if not alone:
        return min(groups, key=lambda g: (_off_center(center, columns, g), len(g)))
    return max((g for g in groups if _off_center(center, columns, g) < off + 4), key=len)


def _off_center(center: float, columns: list[Column], group: range) -> float:
    """How far a header stands from the middle of some columns: of their numbers, or of the width they share.

    The share of a column whose numbers stand at its right edge begins where the one before it ends.
    """
    first, last = columns[group[0]], columns[group[-1]]
    begin = columns[group[0] - 1].x1 if group[0] else first.x1 - _pitch(columns)
    return min(abs((first.x0 + last.x1) / 2 - center), abs((begin + last.x1) / 2 - center))
