"""Tables of a PDF found by the places of their numbers, so that each stands with its row and its column's header.

Rows with numbers that stand below each other make a table; its columns are what these numbers cover; its headers
are the lines above that stand over the columns and over nothing else. Where two numbers of a row fall into one
column the lines stay as they are, with the lines of the headers as their caption.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from mixrag.corpus.parsers.pdf_cells import Cell, Row

_HEADER_ROWS = 8
_LABELS_BETWEEN = 5
_PERIOD_WORDS = re.compile(
    r"\b(?:ended|ending|as (?:of|at)|months|weeks|fiscal|years?|quarters?|december|june|march|january)\b",
    re.I,
)
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_MARK = re.compile(r"\(?\d{1,2}\)?")
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


@dataclass(slots=True)
class Table:
    """Rows ``first`` to ``last`` (its headers among them) of a region."""

    first: int
    last: int
    columns: list[Column]
    lines: list[list[str]]
    """Cells of each row, the label first, each value with its header."""
    caption: str
    certain: bool


def tables(rows: Sequence[Row], above: list[Column] | None = None) -> list[Table]:
    """The tables among the rows of a region, from the top down.

    Args:
        rows: from the top down.
        above: columns of the table at the end of the page before, for one that goes on here without headers.
    """
    found: list[Table] = []
    at = 0
    while at < len(rows):
        if not _has_number(rows[at]):
            at += 1
            continue
        end = _end(rows, at)
        free = found[-1].last + 1 if found else 0
        inherited = found[-1].columns if found and at - free < 3 else above if not found and at < 3 else None
        table = _table(rows, at, end, free, inherited)
        if table is not None:
            found.append(table)
        at = end + 1
    return found


def _has_number(row: Row) -> bool:
    """Whether a number stands beside something else, or alone."""
    first = _first_value(row)
    numbers = [cell for cell in row.cells[first:] if cell.is_number]
    if not numbers or (first == 0 and not all(cell.is_value for cell in row.cells)):
        return False
    texts = [cell for cell in row.cells[first:] if not cell.is_value]
    return not (texts and all(_MARK.fullmatch(cell.text) for cell in numbers))


def _end(rows: Sequence[Row], start: int) -> int:
    """The last row of the stretch of rows with numbers that begins at ``start``."""
    end = start
    left = min(c.x0 for c in _values(rows[start]))
    between = 0
    for at in range(start + 1, len(rows)):
        row, before = rows[at], rows[at - 1]
        if row.y - before.y > 3.2 * max(row.size, before.size):
            break
        if _has_number(row):
            left = min([left, *(c.x0 for c in _values(row))])
            end, between = at, 0
        elif all(cell.is_value for cell in row.cells[1:]) and len(row.cells) > 1 and not _heads(row, left):
            end, between = at, 0  # dashes only
        else:
            between += 1
            if between > _LABELS_BETWEEN or _heads(row, left) or _is_prose(row, left):
                break
    return end


def _values(row: Row) -> list[Cell]:
    return [cell for cell in row.cells[_first_value(row) :] if cell.is_value]


def _first_value(row: Row) -> int:
    """Where the cells behind the label begin; a year in front of numbers is a label."""
    first = row.cells[0]
    return int(len(row.cells) > 1 and (not first.is_value or first.is_period))


def _heads(row: Row, left: float) -> bool:
    """Whether it reads as the headers of further columns: periods only, or several texts over the columns."""
    periods = [cell for cell in row.cells if cell.is_period]
    if len(periods) > 1 and len(periods) >= len(row.cells) - 1:
        return True
    over = [cell for cell in row.cells if (cell.x0 + cell.x1) / 2 > left]
    if not over:
        return False
    return all(cell.is_period for cell in over) or (len(over) == len(row.cells) >= 2)


def _is_prose(row: Row, left: float) -> bool:
    """Whether a line runs from the labels well into the columns."""
    first = row.cells[0]
    return first.x0 < left and first.x1 > left + 3 * row.size and len(first.text.split()) >= 8


def _table(rows: Sequence[Row], start: int, end: int, free: int, inherited: list[Column] | None) -> Table | None:
    body = rows[start : end + 1]
    columns = _columns(body)
    if not columns:
        return None
    first, heads, top, caption = _headers_above(rows, start, free, columns)
    numbered = sum(map(_has_number, body))
    paired = max(sum(any(c.overlap(v.x0, v.x1) > 0 for v in _values(r)) for r in body) for c in columns) >= 2
    if not (numbered >= 2 and paired) and not (heads and len(columns) >= 2):
        return None
    if heads:
        for row in heads:
            _assign(row, columns)
    elif inherited and _fits(inherited, columns):
        columns = [Column(c.x0, c.x1, list(i.headers)) for c, i in zip(columns, inherited, strict=True)]
    labels = _label_columns(body, columns)
    lines = _lines(rows[top : end + 1], columns, labels)
    if lines is None:
        above = " / ".join(row.text for row in heads)
        shown = [[row.text] for row in rows[top : end + 1]]
        return Table(first, end, columns, shown, "; ".join(filter(None, (caption, above))), False)
    return Table(first, end, columns, lines, caption, True)


def _columns(body: Sequence[Row]) -> list[Column]:
    """What the numbers cover, or, where that runs together, where the numbers end."""
    cells = sorted((cell for row in body if _has_number(row) for cell in _values(row)), key=lambda c: c.x0)
    columns: list[Column] = []
    for cell in cells:
        if columns and cell.x0 < columns[-1].x1:
            columns[-1].x1 = max(columns[-1].x1, cell.x1)
        else:
            columns.append(Column(cell.x0, cell.x1))
    if any(
        len({_place(columns, c) for c in _values(row)}) < len(_values(row)) for row in body if _has_number(row)
    ):
        columns = _by_right_edge(cells, body[0].size)
    return columns


def _by_right_edge(cells: list[Cell], size: float) -> list[Column]:
    columns: list[Column] = []
    for cell in sorted(cells, key=lambda c: c.x1):
        if columns and cell.x1 - columns[-1].x1 < 0.7 * size:
            columns[-1].x0, columns[-1].x1 = min(columns[-1].x0, cell.x0), cell.x1
        else:
            columns.append(Column(cell.x0, cell.x1))
    return columns


def _place(columns: list[Column], cell: Cell) -> int:
    """The column that the cell shares most with, or is nearest to."""
    return max(
        range(len(columns)), key=lambda i: (columns[i].overlap(cell.x0, cell.x1), -abs(columns[i].x1 - cell.x1))
    )


def _headers_above(
    rows: Sequence[Row], start: int, free: int, columns: list[Column]
) -> tuple[int, list[Row], int, str]:
    """First row of the table, its headers from the top down, first row below them, and what stands beside them."""
    left, right = columns[0].x0, columns[-1].x1
    slack = 0.6 * _pitch(columns)
    beside: list[str] = []
    heads: list[Row] = []
    first, top, labels = start, start, 0
    for at in range(start - 1, max(free, start - _HEADER_ROWS - _LABELS_BETWEEN) - 1, -1):
        row, below = rows[at], rows[at + 1]
        if below.y - row.y > (3 if not heads else 2.2) * max(row.size, below.size) or _has_number(row):
            break
        label_x0 = min(rows[start].x0, row.x0)
        border = label_x0 + 0.35 * (left - label_x0) if rows[start].x0 < left else left - 6 * row.size
        over = [c for c in row.cells if border < c.x0 < right + row.size and c.x1 > left - slack]
        side = [c for c in row.cells if c not in over]
        if not over:
            if len(row.cells) == 1 and row.x1 < left + row.size and not heads and labels < _LABELS_BETWEEN:
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


def _assign(row: Row, columns: list[Column]) -> None:
    """Give each column what of the row stands over it."""
    taken: set[int] = set()
    groups: list[tuple[Cell, range]] = []
    for cell in row.cells:
        over = _below(cell, columns)
        if len(row.cells) == len(columns) and len(over) == 1:
            over = [len(groups)]
        groups.append((cell, range(over[0], over[-1] + 1)))
        taken.update(range(over[0], over[-1] + 1))
    for cell, below in groups:
        for i in _widened(cell, below, taken, columns):
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


def _widened(cell: Cell, over: range, taken: set[int], columns: list[Column]) -> range:
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
    return max((g for g in groups if _off_center(center, columns, g) < off + 4), key=len)


def _off_center(center: float, columns: list[Column], group: range) -> float:
    """How far a header stands from the middle of some columns: of their numbers, or of the width they share.

    The share of a column whose numbers stand at its right edge begins where the one before it ends.
    """
    first, last = columns[group[0]], columns[group[-1]]
    begin = columns[group[0] - 1].x1 if group[0] else first.x1 - _pitch(columns)
    return min(abs((first.x0 + last.x1) / 2 - center), abs((begin + last.x1) / 2 - center))


def _fits(inherited: list[Column], columns: list[Column]) -> bool:
    return len(inherited) == len(columns) and all(
        a.overlap(b.x0, b.x1) > 0 for a, b in zip(inherited, columns, strict=True)
    )


def _label_columns(body: Sequence[Row], columns: list[Column]) -> list[Column]:
    """Columns of text left of the numbers, where most rows have several."""
    left = columns[0].x0
    sides = [[c for c in row.cells if c.x1 < left and not c.is_value] for row in body if _has_number(row)]
    several = [side for side in sides if len(side) > 1]
    if len(several) < max(2, 0.5 * len(sides)):
        return []
    labels: list[Column] = []
    for cell in sorted((c for side in several for c in side), key=lambda c: c.x0):
        if labels and cell.x0 < labels[-1].x1:
            labels[-1].x1 = max(labels[-1].x1, cell.x1)
        else:
            labels.append(Column(cell.x0, cell.x1))
    return labels if len(labels) > 1 else []


def _lines(rows: Sequence[Row], columns: list[Column], labels: list[Column]) -> list[list[str]] | None:
    """Cells of each row; None where two values of one row fall into one column."""
    left = columns[0].x0
    lines: list[list[str]] = []
    waiting: Row | None = None  # a label without numbers, perhaps the first line of a longer one
    for row in rows:
        values: dict[int, str] = {}
        texts: list[Cell] = []
        for n, cell in enumerate(row.cells):
            at = _place(columns, cell)
            beside = columns[at].overlap(cell.x0, cell.x1) <= 0
            if (not cell.is_value and (cell.x0 + cell.x1) / 2 < left) or (n == 0 and cell.x1 < left):
                texts.append(cell)
            elif (cell.is_value and beside) or (at in values and cell.is_value):
                return None
            elif n == 0 and not cell.is_value:
                texts.append(cell)
            else:
                values[at] = f"{values[at]} {cell.text}" if at in values else cell.text
        label = _label(texts, labels)
        if not values and _goes_on(lines, row, waiting):
            lines[-1][0] = _joined(lines[-1][0], label[0])
            continue
        shown = [
            f"{' '.join(columns[i].headers)}: {text}" if columns[i].headers else text for i, text in values.items()
        ]
        if waiting is not None and values and _begins(waiting, row, left) and lines:
            label = [_joined(lines.pop()[0], label[0]), *label[1:]]
        lines.append([*label, *shown])
        waiting = row if not values else None
    return lines


def _label(texts: list[Cell], labels: list[Column]) -> list[str]:
    if not labels:
        return [" ".join(cell.text for cell in texts)]
    parts = [""] * len(labels)
    for cell in texts:
        at = _place(labels, cell)
        parts[at] = f"{parts[at]} {cell.text}".strip()
    return parts


def _goes_on(lines: list[list[str]], row: Row, waiting: Row | None) -> bool:
    """Whether a line without numbers ends the label of the row before it."""
    return bool(lines) and waiting is None and len(lines[-1]) > 1 and row.text[:1].islower() and bool(lines[-1][0])


def _begins(label: Row, row: Row, left: float) -> bool:
    """Whether a line without numbers is the first of a label that ends in ``row``."""
    first = row.cells[0]
    if first.is_value or label.text.endswith(":") or row.y - label.y > 1.7 * row.size or label.bold != row.bold:
        return False
    full = label.x1 > left - 0.12 * (left - label.x0) - 2 * label.size
    return first.text[:1].islower() or (full and first.x0 > label.x0 - 1)


def _joined(one: str, two: str) -> str:
    return f"{one} {two}".strip()
