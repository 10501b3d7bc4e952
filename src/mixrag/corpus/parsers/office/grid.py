"""Tables with cells over several columns and rows, and how many of their rows are headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.table import count_header_rows

MAX_COLUMNS = 16_384
_LONG = 100
"""Characters of a cell that is repeated in each row that it covers."""
_EXTRA = 20
"""Cells that one cell may stand for on average, so that a small file does not give a large table."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell, at its first column and row."""

    text: str
    columns: int = 1
    rows: int = 1
    bold: bool = False


def add_table(
    builder: DocumentBuilder,
    rows: Sequence[Sequence[Cell]],
    *,
    header_rows: int | None = None,
    caption: str = "",
) -> None:
    """Write a table into the builder.

    A cell over several columns names each of them where it is a header, and stands once elsewhere; a cell over
    several rows stands in each. A first row of one cell is the caption.

    Args:
        builder: where it goes.
        rows: cells of each row, in order; what a cell of an earlier row covers is left out.
        header_rows: how many rows at the top are said to be headers; None: found.
        caption: what the document calls the table.
    """
    laid = _lay(rows)
    if not laid:
        return
    width = max(len(row) for row in laid)
    captions = [caption] if caption else []
    while len(laid) > 1 and width > 1 and len(laid[0]) == width and len({id(cell) for cell in laid[0]}) == 1:
        captions.append(laid.pop(0)[0].text)
        header_rows = max(0, header_rows - 1) or None if header_rows is not None else None
    given = _count_headers(laid) if header_rows is None else min(header_rows, len(laid))
    count = given if given or header_rows is not None else None
    builder.table([_once(row) for row in laid], header_rows=count, caption=" ".join(filter(None, captions)))


def _lay(rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """Each row with one entry a column; a cell stands in all that it covers."""
    covered: dict[int, tuple[int, Cell]] = {}
    laid: list[list[Cell]] = []
    extra = 1000 + _EXTRA * sum(len(row) for row in rows)
    for row in rows:
        out: list[Cell] = []
        waiting = list(reversed(row))
        while waiting or len(out) in covered:
            place = len(out)
            if place in covered:
                left, cell = covered.pop(place)
                out.append(cell if len(cell.text) <= _LONG else Cell(""))
                if left > 1:
                    covered[place] = (left - 1, cell)
                continue
            cell = waiting.pop()
            cost = cell.columns * cell.rows - 1
            wide, deep = (cell.columns, cell.rows) if cost <= extra else (1, 1)
            extra -= cost if cost <= extra else 0
            for column in range(place, min(place + max(1, wide), MAX_COLUMNS)):
                out.append(cell)
                if deep > 1:
                    covered[column] = (deep - 1, cell)
            if len(out) >= MAX_COLUMNS:
                break
        laid.append(out)
    return [row for row in laid if any(cell.text.strip() for cell in row)]


def _once(row: Sequence[Cell]) -> list[str | None]:
    return [None if place and cell is row[place - 1] else cell.text for place, cell in enumerate(row)]


def _count_headers(laid: list[list[Cell]]) -> int:
    """Headers by form: cells over several rows or columns at the top, else bold above plain rows; or 0."""
    first = laid[0]
    texts = [[cell.text for cell in row] for row in laid]
    values = any(map(has_values, texts[1:]))
    spread = any(cell.columns > 1 for cell in first)
    deepest = max((cell.rows for cell in first), default=1)
    if 1 < deepest < len(laid) and (spread or values) and not any(map(has_values, texts[:deepest])):
        return deepest
    if spread and len(laid) > 1 and not has_values(texts[0]):
        second = len(laid) > 2 and not has_values(texts[1])
        return 2 if second and (values or not texts[1][0].strip() or _bold(laid[1])) else 1
    below = [cell for row in laid[1:] for cell in row[1:]]
    return 1 if len(laid) > 1 and _bold(first) and not _bold(below) else 0


def _bold(cells: Sequence[Cell]) -> bool:
    filled = [cell for cell in cells if cell.text.strip()]
    return len(filled) > 1 and all(cell.bold for cell in filled)


def has_values(row: Sequence[str]) -> bool:
    """Whether a cell behind the first is a number that is no year."""
    return count_header_rows([["x", "x"], ["x", *row[1:]]]) == 1
