"""Paragraphs, headings, lists and tables of a region of a PDF page, from its lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Literal

from mixrag.corpus.parsers.pdf.cells import Row, row_of
from mixrag.corpus.parsers.pdf.columns import Column
from mixrag.corpus.parsers.pdf.glyphs import Fragment, rows_of
from mixrag.corpus.parsers.pdf.tables import Table, tables

_BULLET = re.compile(r"[•▪◦○‣∙·➢✓❖■●]\s*\S|[-–—]\s+\S")
_NUMBERED = re.compile(r"(?:\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)]|\(\d{1,3}\))\s+\S")
_SENTENCE_END = re.compile(r"[.!?:;。！？][\"'”’»)\]⁰-⁹¹²³]*$")

PieceKind = Literal["text", "item", "table", "lines"]


@dataclass(slots=True)
class Piece:
    """A stretch of a page that is one block, or part of one."""

    kind: PieceKind
    lines: list[str]
    size: float = 0.0
    bold: bool = False
    indent: float = 0.0
    full: bool = False
    """Whether its last line reaches the right edge of the region, so that it may go on elsewhere."""
    cells: Sequence[Sequence[str | None]] = field(default_factory=list)
    """Of a table."""
    header_rows: int | None = 0
    """Of a table whose cells have no headers yet; None: found by their content."""
    caption: str = ""

    @property
    def ends(self) -> bool:
        """Whether the last line ends a sentence."""
        return bool(_SENTENCE_END.search(self.lines[-1])) if self.lines else True


def pieces(fragments: Sequence[Fragment], above: list[Column] | None = None) -> tuple[list[Piece], list[Column]]:
    """The pieces of one region from the top down, and the columns of the table that it ends with.

    Args:
        fragments: of the region, which has one column.
        above: columns of the table that the page before ends with.
    """
    stretches: list[list[Row]] = [[]]
    grids: list[list[list[str | None]]] = []
    for each in rows_of(list(fragments)):
        for fragment in each:
            if fragment.grid:
                grids.append(fragment.grid)
                stretches.append([])
        rest = [fragment for fragment in each if not fragment.grid]
        if rest and (row := row_of(rest)) is not None:
            stretches[-1].append(row)
    result: list[Piece] = []
    last: list[Column] = []
    for number, rows in enumerate(stretches):
        if number:
            result.append(Piece("table", [], cells=grids[number - 1], header_rows=None))
        found, last = _stretch(rows, above if number == 0 else None)
        result += found
    return result, last


def _stretch(rows: list[Row], above: list[Column] | None) -> tuple[list[Piece], list[Column]]:
    found = tables(rows, above)
    result: list[Piece] = []
    at = 0
    for table in found:
        result += _paragraphs(rows[at : table.first], rows)
        result.append(_of_table(table))
        at = table.last + 1
    result += _paragraphs(rows[at:], rows)
    last = found[-1].columns if found and at >= len(rows) - 1 else []
    return result, last


def _of_table(table: Table) -> Piece:
    kind: PieceKind = "table" if table.certain else "lines"
    return Piece(kind, [], cells=table.lines, caption=table.caption)


def _paragraphs(rows: Sequence[Row], region: Sequence[Row]) -> list[Piece]:
    if not rows:
        return []
    right = max(row.x1 for row in region)
    left = min(row.x0 for row in region)
    leading = _leading(region)
    result: list[Piece] = []
    for number, row in enumerate(rows):
        before = rows[number - 1] if number else None
        kind: PieceKind = "item" if _starts_item(row.text) else "text"
        full = row.x1 > right - 0.12 * (right - left) - row.size
        if before is not None and not _breaks(before, row, result[-1], kind, leading, right):
            piece = result[-1]
            piece.lines.append(row.text)
            piece.bold = piece.bold and row.bold
            piece.full = full
        else:
            result.append(Piece(kind, [row.text], row.size, row.bold, row.x0, full))
    return result


def _starts_item(text: str) -> bool:
    return bool(_BULLET.match(text) or _NUMBERED.match(text))


def _leading(rows: Sequence[Row]) -> float:
    """The usual distance of two lines, in units of the font size."""
    steps = [
        (b.y - a.y) / b.size
        for a, b in pairwise(rows)
        if 0.8 < (b.y - a.y) / b.size < 2.2 and abs(a.size - b.size) < 0.05 * b.size
    ]
    return min(median(steps), 1.8) if steps else 1.3


def _breaks(before: Row, row: Row, piece: Piece, kind: PieceKind, leading: float, right: float) -> bool:
    """Whether a new piece begins with ``row``."""
    step = (row.y - before.y) / row.size
    if kind == "item" or abs(row.size - before.size) > 0.09 * row.size or step < 0.3:
        return True
    if step > leading * 1.25 + 0.1:
        return True
    if row.bold != before.bold and (
        (before.bold and piece.bold) or (row.bold and before.x1 < right - 8 * row.size)
    ):
        return True
    if piece.kind == "item":
        return row.x0 < piece.indent + 0.3 * row.size and before.x1 < right - 6 * row.size
    ended = bool(_SENTENCE_END.search(before.text))
    indented = row.x0 > before.x0 + 0.8 * row.size and row.x0 < before.x0 + 5 * row.size
    if indented and (ended or (len(piece.lines) == 1 and before.x1 > right - 4 * row.size and ended)):
        return True
    short = before.x1 < right - max(0.15 * (right - before.x0), 5 * row.size)
    return short and (ended or not row.text[:1].islower()) and not before.text.endswith("-")
