"""Tables of a page: grids of data, and those that only place things beside each other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mixrag.corpus.parsers.html.blocks import HtmlBlock

_LONGEST_CELL = 2_000
_REPEATED = 200
_BULLET = re.compile(r"[•●▪■◦○‣∙·*–-]|\(?(?:\d{1,3}|[a-z]|[ivx]{1,5})[.)]", re.IGNORECASE)


@dataclass(slots=True)
class _Cell:
    blocks: list[HtmlBlock]
    header: bool
    columns: int
    rows: int

    def plain(self) -> str:
        return " ".join(block.plain() for block in self.blocks)

    def is_page(self) -> bool:
        """Whether it holds what a cell of data does not: headings, tables, code, several long paragraphs."""
        long = len(self.blocks) > 1 and sum(len(block.text) for block in self.blocks) > _LONGEST_CELL
        return long or any(block.kind in {"heading", "table", "code"} for block in self.blocks)


@dataclass(slots=True)
class _Row:
    in_head: bool
    cells: list[_Cell] = field(default_factory=list)

    def is_header(self) -> bool:
        return self.in_head or all(cell.header for cell in self.cells)

    def bullet(self) -> str:
        """The item of a list that the row is, "" where it is none."""
        texts = [text for cell in self.cells if (text := cell.plain())]
        if len(texts) != 2 or not _BULLET.fullmatch(texts[0]):
            return ""
        return f"{texts[0] if texts[0][-1] in '.)' else '-'} {texts[1]}"


class Table:
    """Rows and cells, gathered while the tree is walked."""

    def __init__(self, *, layout: bool = False) -> None:
        self.caption = ""
        self.in_head = False
        self._layout = layout
        self._rows: list[_Row] = []

    def open_row(self) -> None:
        """A ``tr`` begins."""
        self._rows.append(_Row(self.in_head))

    def add_cell(self, blocks: list[HtmlBlock], header: bool, columns: int, rows: int) -> None:
        """A finished ``th`` or ``td`` over so many columns and rows."""
        if not self._rows:
            self.open_row()
        self._rows[-1].cells.append(_Cell(blocks, header, columns, rows))

    def blocks(self) -> list[HtmlBlock]:
        """One table; or, where it only places things, these things in the order of reading."""
        rows = [row for row in self._rows if row.cells]
        if self._is_layout(rows):
            caption = [HtmlBlock("text", self.caption)] if self.caption else []
            return caption + [block for row in rows for cell in row.cells for block in cell.blocks]
        if not self.caption and all(bullets := [row.bullet() for row in rows]):
            return [HtmlBlock("items", items=bullets)]
        header_rows = next((number for number, row in enumerate(rows) if not row.is_header()), len(rows))
        return [HtmlBlock("table", self.caption, cells=_grid(rows), header_rows=header_rows or None)]

    def _is_layout(self, rows: list[_Row]) -> bool:
        if self._layout or sum(len(row.cells) for row in rows) < 2:
            return True
        if self.caption or any(row.in_head or any(cell.header for cell in row.cells) for row in rows):
            return False
        pages = sum(any(cell.is_page() for cell in row.cells) for row in rows)
        return max(len(row.cells) for row in rows) == 1 or 2 * pages >= len(rows)


def _grid(rows: list[_Row]) -> list[list[str | None]]:
    """Rows of cells: one over several columns is followed by None, one over several rows stands in each.

    How many cells that may add is limited by the number of cells that there are.
    """
    extra = 1_000 + 20 * sum(len(row.cells) for row in rows)
    grid: list[list[str | None]] = []
    below: dict[int, tuple[int, str | None]] = {}  # column: rows that it is still in, text
    for row in rows:
        line: list[str | None] = []
        for cell in row.cells:
            _take_from_above(line, below)
            columns, height = (cell.columns, cell.rows) if extra > 0 else (1, 1)
            extra -= columns * height - 1
            text = cell.plain()
            for number in range(columns):
                if height > 1:
                    repeated = text if len(text) <= _REPEATED else ""
                    below[len(line)] = (height - 1, repeated if number == 0 else None)
                line.append(text if number == 0 else None)
        _take_from_above(line, below)
        grid.append(line)
    return grid


def _take_from_above(line: list[str | None], below: dict[int, tuple[int, str | None]]) -> None:
    while (found := below.pop(len(line), None)) is not None:
        height, text = found
        if height > 1:
            below[len(line)] = (height - 1, text)
        line.append(text)
