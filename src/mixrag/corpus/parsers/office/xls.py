"""XLS files of old Excel, through xlrd: numbers as their cells show them, blank cells without cost.

Kreuzberg fills the rectangle between the first and the last cell: a file of a few KB takes 39 s and 1.5 GB.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.number_format import formatted
from mixrag.corpus.parsers.office.package import kind_of
from mixrag.corpus.parsers.office.sheet import Sheet, add_sheet
from mixrag.corpus.parsers.office.tally import Tally, finish
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.utils.extras import require

MAX_CELLS = 5_000_000
_BOLD = 600


def read_xls(data: bytes, name: str) -> ParseResult:
    """The document of an XLS file, its sheets in their order.

    Raises:
        UnreadableError: it is broken, encrypted or without text.
    """
    kind = kind_of(name, ".xls")
    xlrd = require("xlrd", "files", kind)
    broken = (xlrd.XLRDError, xlrd.compdoc.CompDocError, struct.error, LookupError, ValueError, ArithmeticError,
              TypeError, AttributeError, AssertionError, EOFError)  # fmt: skip
    builder, tally = DocumentBuilder(), Tally()
    try:
        book = xlrd.open_workbook(
            file_contents=data, logfile=io.StringIO(), formatting_info=True, ragged_rows=True, on_demand=True
        )
        for place in range(book.nsheets):
            try:
                _add(builder, book, book.sheet_by_index(place), tally)
            except broken as error:
                tally.add(
                    "damaged parts of files", detail=f"damaged and not read: sheet {place + 1}: {error}"[:200]
                )
            book.unload_sheet(place)
    except broken as error:
        found = " ".join(str(error).split())[:150] or type(error).__name__
        if "encrypted" in found.lower():
            raise UnreadableError(
                f"a {kind} file without a password", found, "save it without password"
            ) from error
        raise UnreadableError(f"a valid {kind} file", found, "repair it or leave it out") from error
    return finish(builder, tally)


def _add(builder: DocumentBuilder, book: Any, source: Any, tally: Tally) -> None:
    if source.visibility:
        tally.add("hidden sheets", detail=f"hidden sheets were left out: {source.name}")
        return
    sheet = Sheet(source.name)
    sheet.hidden_columns = {place for place, info in source.colinfo_map.items() if info.hidden}
    sheet.merged = [(top + 1, left, bottom, right - 1) for top, bottom, left, right in source.merged_cells]
    cells = 0
    for place in range(source.nrows):
        cells += source.row_len(place)
        if cells > MAX_CELLS:
            tally.add(
                "cells too many for one file", source.row_len(place), "the last cells of the file were left out"
            )
            continue
        texts = {
            column: text
            for column in range(source.row_len(place))
            if (text := _shown(book, source, place, column))
        }
        info = source.rowinfo_map.get(place)
        if texts and info is not None and info.hidden and not info.outline_level:
            tally.add("hidden rows", detail="hidden rows of sheets were left out")
            sheet.hidden_rows.add(place + 1)
        elif texts:
            _put(sheet, book, source, place, texts)
    tally.add("comments", len(source.cell_note_map))
    add_sheet(builder, sheet, tally)


def _put(sheet: Sheet, book: Any, source: Any, place: int, texts: dict[int, str]) -> None:
    sheet.rows[place + 1] = texts
    sheet.numbers[place + 1] = sum(source.cell_type(place, column) in (2, 3) for column in texts)
    for column in texts:
        font = book.font_list[book.xf_list[source.cell_xf_index(place, column)].font_index]
        if font.bold or font.weight > _BOLD:
            sheet.bold.add((place + 1, column))


def _shown(book: Any, source: Any, place: int, column: int) -> str:
    """Text of a cell as it is shown."""
    kind, value = source.cell_type(place, column), source.cell_value(place, column)
    if kind == 1:
        return str(value).strip()
    if kind in (2, 3):
        format_ = book.format_map.get(book.xf_list[source.cell_xf_index(place, column)].format_key)
        return formatted(float(value), format_.format_str if format_ else "General", date1904=bool(book.datemode))
    if kind == 4:
        return "TRUE" if value else "FALSE"
    if kind == 5:
        errors = {0: "#NULL!", 7: "#DIV/0!", 15: "#VALUE!", 23: "#REF!", 29: "#NAME?", 36: "#NUM!", 42: "#N/A"}
        return errors.get(value, "#ERROR")
    return ""
