"""Tables of a PDF found by the places of their numbers, so that each stands with its row and its column's header.

Rows with numbers that stand below each other make a table; its columns are what these numbers cover; its headers
are the lines above that stand over the columns and over nothing else. Where two numbers of a row fall into one
column the lines stay as they are, with the lines of the headers as their caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mixrag.corpus.parsers.pdf.cells import Cell, Row
from mixrag.corpus.parsers.pdf.columns import (
    LABELS_BETWEEN,
    Column,
    assign,
    has_number,
    headers_above,
    place,
    values,
)
from mixrag.corpus.parsers.pdf.rows import label_columns, table_rows

_FILLED = 0.6


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
        if not has_number(rows[at]):
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


def _end(rows: Sequence[Row], start: int) -> int:
    """The last row of the stretch of rows with numbers that begins at ``start``."""
    end = start
    left = min(c.x0 for c in values(rows[start]))
    between = 0
    for at in range(start + 1, len(rows)):
        row, before = rows[at], rows[at - 1]
        if row.y - before.y > 3.2 * max(row.size, before.size):
            break
        if has_number(row):
            left = min([left, *(c.x0 for c in values(row))])
            end, between = at, 0
        elif all(cell.is_value for cell in row.cells[1:]) and len(row.cells) > 1 and not _heads(row, left):
            end, between = at, 0  # dashes only
        else:
            between += 1
            if between > LABELS_BETWEEN or _heads(row, left) or _is_prose(row, left):
                break
    after = rows[end + 1] if end + 1 < len(rows) else None
    if after and after.text[0].islower() and after.x1 < left and after.y - rows[end].y < 1.4 * after.size:
        end += 1  # the rest of a label
    return end


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
    first, heads, top, caption = headers_above(rows, start, free, columns)
    numbered = sum(map(has_number, body))
    paired = max(sum(any(c.overlap(v.x0, v.x1) > 0 for v in values(r)) for r in body) for c in columns) >= 2
    if not (numbered >= 2 and paired) and not (heads and len(columns) >= 2):
        return None
    if heads:
        for row in heads:
            assign(row, columns)
    elif inherited and _fits(inherited, columns):
        over = _above(inherited, columns)
        columns = [Column(c.x0, c.x1, list(o.headers)) for c, o in zip(columns, over, strict=True)]
    labels = label_columns(body, columns)
    lines = table_rows(rows[top : end + 1], columns, labels)
    if lines is None or _run_together(columns, body):
        above = " / ".join(row.text for row in heads)
        shown = [[row.text] for row in rows[top : end + 1]]
        return Table(first, end, columns, shown, "; ".join(filter(None, (caption, above))), False)
    return Table(first, end, columns, lines, caption, True)


def _columns(body: Sequence[Row]) -> list[Column]:
    """What the numbers cover, or, where that runs together, where the numbers end."""
    cells = sorted((cell for row in body if has_number(row) for cell in values(row)), key=lambda c: c.x0)
    columns: list[Column] = []
    for cell in cells:
        if columns and cell.x0 < columns[-1].x1:
            columns[-1].x1 = max(columns[-1].x1, cell.x1)
        else:
            columns.append(Column(cell.x0, cell.x1))
    if any(len({place(columns, c) for c in values(row)}) < len(values(row)) for row in body if has_number(row)):
        columns = _by_right_edge(cells, body[0].size)
    return columns


def _run_together(columns: list[Column], body: Sequence[Row]) -> bool:
    """Whether columns that were told apart by where their numbers end are none: too near, or hardly filled."""
    touching = any(a.overlap(b.x0, b.x1) > 0 for a, b in pairwise(columns))
    numbered = [values(row) for row in body if has_number(row)]
    if touching and sum(map(len, numbered)) < _FILLED * len(columns) * len(numbered):
        return True
    return any(a.overlap(b.x0, b.x1) > 0.3 * min(a.x1 - a.x0, b.x1 - b.x0) for a, b in pairwise(columns))


def _by_right_edge(cells: list[Cell], size: float) -> list[Column]:
    columns: list[Column] = []
    for cell in sorted(cells, key=lambda c: c.x1):
        if columns and cell.x1 - columns[-1].x1 < 0.7 * size:
            columns[-1].x0, columns[-1].x1 = min(columns[-1].x0, cell.x0), cell.x1
        else:
            columns.append(Column(cell.x0, cell.x1))
    return columns


def _fits(inherited: list[Column], columns: list[Column]) -> bool:
    return len(inherited) >= len(columns) and len(_above(inherited, columns)) == len(columns)


def _above(inherited: list[Column], columns: list[Column]) -> list[Column]:
    """The columns of the table before that the new ones stand below; fewer where two stand below the same."""
    found = {}
    for column in columns:
        best = max(inherited, key=lambda c: c.overlap(column.x0, column.x1))
        if best.overlap(column.x0, column.x1) > 0:
            found[id(best)] = best
    return list(found.values())
