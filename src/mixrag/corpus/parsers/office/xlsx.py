"""XLSX files: each sheet as its tables, numbers as its cells show them.

Kreuzberg gives raw numbers (per cent is a fraction) and no merged cells; openpyxl gives no number as it is shown,
and no merged cells while it streams. So the parts are read directly, a row at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.number_format import BUILT_IN, formatted, general
from mixrag.corpus.parsers.office.package import A, Package, kind_of
from mixrag.corpus.parsers.office.sheet import Area, Sheet, add_sheet
from mixrag.corpus.parsers.office.tally import finish
from mixrag.corpus.parsers.raised import subscript, superscript
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.parsers.titles import useful_title

S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
R_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
MAX_CELLS = 5_000_000
MAX_CHARACTERS = 2**27
"""Of all cells together: a text that many cells share must not fill the memory."""
_ANY_S = "{*}"
_REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7})")


def read_xlsx(data: bytes, name: str) -> ParseResult:
    """The document of an XLSX file, its sheets in their order.

    Raises:
        UnreadableError: it is broken, encrypted or without text.
    """
    return _Workbook(Package(data, kind_of(name, ".xlsx"))).result()


@dataclass
class _Formats:
    """How cells look, by the number of their style."""

    codes: list[str] = field(default_factory=list)
    bold: list[bool] = field(default_factory=list)


class _Workbook:
    def __init__(self, package: Package) -> None:
        self.package, self.builder, self.tally = package, DocumentBuilder(), package.tally
        self.main = package.main("xl/workbook.xml")
        self.links = package.links(self.main)
        self.root = package.xml(self.main)
        settings = self.root.find(f"{S}workbookPr")
        self.date1904 = settings is not None and settings.get("date1904") in ("1", "true")
        self.formats = _read_formats(self._linked("styles"))
        self.shared = self._shared_strings()
        self.cells = self.characters = 0

    def result(self) -> ParseResult:
        sheets = list(self.root.iterfind(f"{S}sheets/{S}sheet"))
        visible = [each for each in sheets if each.get("state", "visible") == "visible"]
        names = [each.get("name", "") for each in sheets if each not in visible]
        detail = f"hidden sheets were left out: {', '.join(names[:5])}"
        self.tally.add("hidden sheets", len(names), detail)
        read: set[str] = set()
        for each in visible:
            kind, target = self.links.get(each.get(R_ID, ""), ("", ""))
            if kind == "worksheet" and target in self.package and target not in read:
                read.add(target)
                sheet = self._sheet(each.get("name", ""), target)
                add_sheet(self.builder, sheet, self.tally)
                self._beside(target)
            elif kind:
                self.tally.add("sheets without cells")
        return finish(self.builder, self.tally, useful_title(self.package.title()))

    def _linked(self, kind: str) -> Any | None:
        target = next((target for type_, target in self.links.values() if type_ == kind), "")
        return self.package.optional_xml(target) if target else None

    def _shared_strings(self) -> list[str]:
        target = next((target for type_, target in self.links.values() if type_ == "sharedStrings"), "")
        if not target or target not in self.package:
            return []
        texts = []
        for each in self.package.rows(target, f"{_ANY_S}si"):
            texts.append(_rich_text(each))
            _forget(each)
        return texts

    def _sheet(self, name: str, target: str) -> Sheet:
        sheet = Sheet(name)
        tags = [_ANY_S + tag for tag in ("row", "mergeCell", "autoFilter", "col", "tablePart")]
        filtered = False
        hidden: list[int] = []
        try:
            for each in self.package.rows(target, tags):
                kind = each.tag.rpartition("}")[2]
                if kind == "row":
                    self._row(each, sheet, hidden)
                    _forget(each)
                elif kind == "mergeCell":
                    if area := parse_area(each.get("ref", "")):
                        sheet.merged.append(area)
                elif kind == "col":
                    _hide_columns(each, sheet)
                else:
                    filtered = True
        except UnreadableError as error:
            self.package.damaged(target, error)
        if filtered:
            return sheet
        sheet.hidden_rows.update(hidden)
        for place in hidden:
            sheet.rows.pop(place, None)
        self.tally.add("hidden rows", len(hidden), "hidden rows of sheets were left out")
        return sheet

    def _row(self, row: Any, sheet: Sheet, hidden: list[int]) -> None:
        place = _whole(row.get("r"), sheet.last_row + 1)
        sheet.last_row = max(sheet.last_row, place)
        if self.cells > MAX_CELLS or self.characters > MAX_CHARACTERS:
            detail = "the last cells of the file were left out"
            self.tally.add("cells too many for one file", len(row), detail)
            return
        column, texts = -1, {}
        for cell in row:
            column = _column(cell.get("r")) if cell.get("r") else column + 1
            text, style = self._cell(cell)
            if text:
                texts[column] = text
                if style < len(self.formats.bold) and self.formats.bold[style]:
                    sheet.bold.add((place, column))
                if cell.get("t", "n") == "n":
                    sheet.numbers[place] = sheet.numbers.get(place, 0) + 1
        self.cells += len(texts)
        self.characters += sum(map(len, texts.values()))
        if not texts:
            return
        sheet.rows[place] = texts
        if row.get("hidden") in ("1", "true") and not _whole(row.get("outlineLevel"), 0):
            hidden.append(place)

    def _cell(self, cell: Any) -> tuple[str, int]:
        """Text as shown, and the number of the style."""
        value = formula = inline = None
        for each in cell:
            kind = each.tag.rpartition("}")[2] if isinstance(each.tag, str) else ""
            if kind == "v":
                value = each.text
            elif kind == "f":
                formula = each
            elif kind == "is":
                inline = _rich_text(each)
        style, type_ = _whole(cell.get("s"), 0), cell.get("t", "n")
        if inline is not None:
            return inline, style
        if value is None or value == "":
            if formula is not None and type_ == "n":
                self.tally.add("formulas without a value", detail="open and save the file to have them calculated")
            return "", style
        if type_ == "s":
            place = _whole(value, -1)
            return (self.shared[place] if 0 <= place < len(self.shared) else ""), style
        if type_ == "b":
            return ("FALSE" if value == "0" else "TRUE"), style
        return (self._number(value, style) if type_ == "n" else value), style

    def _number(self, value: str, style: int) -> str:
        code = self.formats.codes[style] if style < len(self.formats.codes) else "General"
        try:
            number = float(value)
            return general(number) if code == "General" else formatted(number, code, date1904=self.date1904)
        except (ValueError, OverflowError):
            return value

    def _beside(self, target: str) -> None:
        """Text boxes on a sheet; comments, charts and pictures are counted."""
        for kind, part in self.package.links(target).values():
            if kind in ("comments", "threadedComment"):
                root = self.package.once(part)
                count = 0 if root is None else sum(1 for _ in root.iter("{*}comment", "{*}threadedComment"))
                if kind == "comments":
                    self.tally.add("comments", count)
            elif kind == "drawing" and (root := self.package.once(part)) is not None:
                self._drawing(root)

    def _drawing(self, root: Any) -> None:
        for each in root.iter("{*}txBody"):
            lines = ("".join(text.text or "" for text in p.iter(f"{A}t")) for p in each.iter(f"{A}p"))
            self.builder.paragraph("\n".join(lines))
        self.tally.add("images", sum(1 for _ in root.iter("{*}pic")))
        charts = sum(1 for each in root.iter("{*}chart"))
        self.tally.add("charts", charts, "charts were left out; their numbers stand in the sheets")


def parse_area(reference: str) -> Area | None:
    """First row, first column, last row and last column of "B2:D4": rows from 1, columns from 0."""
    ends = [_REFERENCE.fullmatch(part) for part in reference.split(":")]
    first, last = ends[0], ends[-1]
    if not first or not last:
        return None
    return int(first[2]), _letters(first[1]), int(last[2]), _letters(last[1])


def _hide_columns(element: Any, sheet: Sheet) -> None:
    if element.get("hidden") in ("1", "true") and not _whole(element.get("outlineLevel"), 0):
        first, last = _whole(element.get("min"), 1), _whole(element.get("max"), 0)
        sheet.hidden_columns.update(range(first - 1, min(last, 16_384)))


def _column(reference: str) -> int:
    match = _REFERENCE.fullmatch(reference)
    return _letters(match[1]) if match else 0


@lru_cache(maxsize=20_000)
def _letters(letters: str) -> int:
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - 64
    return column - 1


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else otherwise


def _rich_text(element: Any) -> str:
    """Text of a string, raised and lowered characters marked, readings of Japanese left out."""
    out = ""
    for each in element:
        kind = each.tag.rpartition("}")[2] if isinstance(each.tag, str) else ""
        if kind == "t":
            out += each.text or ""
        elif kind == "r":
            text = "".join(t.text or "" for t in each.iterfind("{*}t"))
            align = each.find("{*}rPr/{*}vertAlign")
            form = "" if align is None else align.get("val", "")
            if form == "superscript":
                text = superscript(text, out)
            elif form == "subscript":
                text = subscript(text, out)
            out += text
    # A line end and other characters are written _x000A_.
    return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda m: _escaped(int(m[1], 16)), out) if "_x" in out else out


def _escaped(code: int) -> str:
    return chr(code) if not 0xD800 <= code < 0xE000 else ""


def _read_formats(root: Any | None) -> _Formats:
    formats = _Formats()
    if root is None:
        return formats
    codes = dict(BUILT_IN)
    for each in root.iterfind(f"{S}numFmts/{S}numFmt"):
        codes[_whole(each.get("numFmtId"), -1)] = each.get("formatCode", "General")
    fonts = [each.find(f"{S}b") is not None for each in root.iterfind(f"{S}fonts/{S}font")]
    for each in root.iterfind(f"{S}cellXfs/{S}xf"):
        formats.codes.append(codes.get(_whole(each.get("numFmtId"), 0), "General"))
        font = _whole(each.get("fontId"), -1)
        formats.bold.append(0 <= font < len(fonts) and fonts[font])
    return formats


def _forget(element: Any) -> None:
    """Free a streamed element, and those before it."""
    element.clear()
    while element.getprevious() is not None:
        del element.getparent()[0]
