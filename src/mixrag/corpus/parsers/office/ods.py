"""ODS files: each sheet as its tables, a row at a time; cells have their text as it is shown."""

from __future__ import annotations

from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.odf import odf_title, open_odf
from mixrag.corpus.parsers.office.odf_text import OFFICE, STYLE, TABLE, TEXT, OdfReader, OdfStyles
from mixrag.corpus.parsers.office.package import local
from mixrag.corpus.parsers.office.sheet import Sheet, add_sheet
from mixrag.corpus.parsers.office.tally import Tally, finish
from mixrag.corpus.parsers.result import ParseResult

MAX_CELLS = 5_000_000
MAX_CHARACTERS = 2**27
"""Of all cells together: a cell that says to stand a million times must not fill the memory."""
_MOST_COLUMNS = 16_384
_NUMBERS = frozenset({"float", "percentage", "currency", "date", "time"})


def read_ods(data: bytes, name: str) -> ParseResult:
    """The document of an ODS file, its sheets in their order.

    Raises:
        UnreadableError: it is broken, encrypted or without text.
    """
    package = open_odf(data, name, ".ods")
    reader = _Reader(package.tally)
    reader.styles.add(package.optional_xml("styles.xml"))
    for each in package.rows("content.xml", [f"{STYLE}style", f"{TABLE}table-row", f"{TABLE}table"]):
        if each.tag == f"{STYLE}style":
            reader.styles.learn(each)
        elif each.tag == f"{TABLE}table":
            reader.end(each)
        else:
            reader.row(each)
            for child in list(each):
                each.remove(child)
    return finish(reader.builder, reader.tally, odf_title(package))


class _Reader:
    def __init__(self, tally: Tally) -> None:
        self.builder, self.tally, self.styles = DocumentBuilder(), tally, OdfStyles()
        self.text = OdfReader(self.styles, self.tally)
        self.sheet = Sheet("")
        self.cells = self.characters = 0

    def end(self, table: Any) -> None:
        """Write a sheet whose rows have been read."""
        sheet, self.sheet = self.sheet, Sheet("")
        sheet.name = table.get(f"{TABLE}name", "")
        style = self.styles.element(table.get(f"{TABLE}style-name"))
        properties = None if style is None else style.find(f"{STYLE}table-properties")
        if properties is not None and properties.get(f"{TABLE}display") == "false":
            self.tally.add("hidden sheets", detail="hidden sheets were left out")
        else:
            add_sheet(self.builder, sheet, self.tally)
        for each in list(table):
            table.remove(each)

    def row(self, row: Any) -> None:
        """Read a row; one that is repeated stands as often."""
        times = _times(row, "number-rows-repeated")
        texts, numbers, bold, spans = self._cells(row)
        first = self.sheet.last_row + 1
        self.sheet.last_row += times
        if not texts:
            return
        if row.get(f"{TABLE}visibility") == "collapse":
            self.tally.add("hidden rows", min(times, 1000), "hidden rows of sheets were left out")
            self.sheet.hidden_rows.update(range(first, first + min(times, 1000)))
            return
        length = sum(map(len, texts.values()))
        for place in range(first, first + times):
            self.cells, self.characters = self.cells + len(texts), self.characters + length
            if self.cells > MAX_CELLS or self.characters > MAX_CHARACTERS:
                detail = "the last cells of the file were left out"
                self.tally.add("cells too many for one file", len(texts) * (first + times - place), detail)
                return
            self.sheet.rows[place] = dict(texts)
            self.sheet.numbers[place] = numbers
            self.sheet.bold.update((place, column) for column in bold)
            self.sheet.merged += [
                (place, column, place + deep - 1, column + wide - 1) for column, wide, deep in spans
            ]

    def _cells(self, row: Any) -> tuple[dict[int, str], int, list[int], list[tuple[int, int, int]]]:
        """Texts by column, how many are numbers, which are bold, and (column, columns, rows) of merged areas."""
        texts: dict[int, str] = {}
        bold: list[int] = []
        spans: list[tuple[int, int, int]] = []
        numbers = column = 0
        for cell in row:
            kind = local(cell)
            if kind not in ("table-cell", "covered-table-cell"):
                continue
            if column >= _MOST_COLUMNS:
                break
            times = _times(cell, "number-columns-repeated")
            text = self._text(cell) if kind == "table-cell" else ""
            if text:
                wide, deep = _times(cell, "number-columns-spanned"), _times(cell, "number-rows-spanned")
                for each in range(column, column + min(times, 1024)):
                    texts[each] = text
                    numbers += cell.get(f"{OFFICE}value-type") in _NUMBERS
                    if self.styles.get(cell.get(f"{TABLE}style-name")).bold:
                        bold.append(each)
                if wide > 1 or deep > 1:
                    spans.append((column, wide, deep))
            column += times
        return texts, numbers, bold, spans

    def _text(self, cell: Any) -> str:
        texts = [self.text.read(each).text.strip() for each in cell.iterchildren(f"{TEXT}p")]
        for _ in cell.iterchildren(f"{OFFICE}annotation"):
            self.tally.add("comments")
        return " ".join(filter(None, texts)) or cell.get(f"{OFFICE}value", "")


def _times(element: Any, name: str) -> int:
    given = element.get(f"{TABLE}{name}", "1")
    return min(max(int(given), 1), 2_000_000) if given.isdigit() and len(given) < 9 else 1
