"""DOCX files: headings, paragraphs, lists, tables and notes, from the markup itself.

Kreuzberg loses tabs, superscripts, foot- and endnotes and the place of equations, and gives hidden and moved text;
python-docx gives paragraphs and tables of the body, without content controls, text boxes, notes and list marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.docx_styles import Numbering, Style, Styles, W, number, switched, value
from mixrag.corpus.parsers.office.docx_text import Paragraph, ParagraphReader
from mixrag.corpus.parsers.office.drawing import add_chart, diagram_items
from mixrag.corpus.parsers.office.grid import Cell, add_table
from mixrag.corpus.parsers.office.package import MC, Package, alternative, kind_of
from mixrag.corpus.parsers.office.tally import finish
from mixrag.corpus.parsers.result import ParseResult
from mixrag.corpus.parsers.titles import useful_title

_DEEPEST = 12
_LONGEST_HEADING = 300
_CODE = frozenset({"html preformatted", "code", "source code", "code block", "macro"})
_THROUGH = frozenset(W + name for name in ("sdt", "sdtContent", "customXml", "smartTag", "ins", "moveTo"))


def read_docx(data: bytes, name: str) -> ParseResult:
    """The document of a DOCX file.

    Raises:
        UnreadableError: it is broken, encrypted or without text.
    """
    return _Reader(Package(data, kind_of(name, ".docx"))).result()


class _Reader:
    def __init__(self, package: Package) -> None:
        self.package, self.builder, self.tally = package, DocumentBuilder(), package.tally
        self.main = package.main("word/document.xml")
        self.links = package.links(self.main)
        self.styles = Styles(self._linked("styles"))
        self.numbering = Numbering(self._linked("numbering"))
        notes = {
            kind: {each.get(f"{W}id", ""): each for each in self._linked(f"{kind}s", ())}
            for kind in ("footnote", "endnote")
        }
        self.reader = ParagraphReader(self.styles, self.tally, notes)
        self.title = ""
        self.lines: list[str] = []
        """Items of the open list, or lines of the open code."""
        self.open = ""
        self.notes: list[tuple[str, Any]] = []
        self.carried = ""
        self.caption = ""

    def result(self) -> ParseResult:
        """The document, and what was left out of it."""
        root = self.package.xml(self.main)
        body = root.find(f"{W}body")
        self.blocks(root if body is None else body, 0)
        if self.carried.strip():
            self.builder.paragraph(self.carried)
        self._count_rest()
        return finish(self.builder, self.tally, useful_title(self.package.title()) or self.title)

    def blocks(self, container: Any, depth: int) -> None:
        """All paragraphs and tables of a body, a text box or a cell."""
        for each in self._children(container, f"{W}p", f"{W}tbl"):
            if each.tag == f"{W}tbl":
                self._table(each, depth)
            else:
                self._paragraph(each, depth)
        self._close()

    def _linked(self, kind: str, otherwise: Any = None) -> Any:
        target = next((target for type_, target in self.links.values() if type_ == kind), "")
        root = self.package.optional_xml(target) if target else None
        return otherwise if root is None else root

    def _children(self, container: Any, *wanted: str) -> Iterator[Any]:
        """Elements with these tags, also inside content controls and insertions."""
        waiting = list(reversed(container))
        while waiting:
            each = waiting.pop()
            if each.tag in wanted:
                yield each
            elif each.tag in _THROUGH:
                waiting += reversed(each)
            elif each.tag == f"{MC}AlternateContent":
                chosen = alternative(each)
                waiting += [] if chosen is None else list(reversed(chosen))
            elif each.tag == f"{W}altChunk":
                self.tally.add("embedded documents")
            elif each.tag == f"{W}del":
                self.tally.add("tracked deletions")

    # paragraphs

    def _paragraph(self, element: Any, depth: int) -> None:
        properties = element.find(f"{W}pPr")
        style = self.styles.get(value(properties, f"{W}pStyle"))
        content = self.reader.read(element)
        text, mark = self.carried + content.text, self._mark(properties, style)
        self.carried = ""
        if self._joins_next(properties):
            self.carried = text
        elif text.strip():
            self._place(text, mark, style, self._level(properties, style))
        self.notes += content.notes
        if content.boxes or content.parts:
            self._close()
        self._attachments(content, depth)

    @staticmethod
    def _joins_next(properties: Any) -> bool:
        """Whether the end of the paragraph is deleted, or it is the initial of the next."""
        if properties is None:
            return False
        frame = properties.find(f"{W}framePr")
        initial = frame is not None and frame.get(f"{W}dropCap", "none") != "none"
        return initial or properties.find(f"{W}rPr/{W}del") is not None

    @staticmethod
    def _level(properties: Any, style: Style) -> int:
        own = number(value(properties, f"{W}outlineLvl"))
        return style.level if own is None else (own + 1 if 0 <= own < 9 else 0)

    def _mark(self, properties: Any, style: Style) -> tuple[int, str] | None:
        """Level and mark of a list item or numbered heading."""
        list_id = value(properties, f"{W}numPr/{W}numId") or style.list_id
        if list_id in (None, "0"):
            return None
        own = number(value(properties, f"{W}numPr/{W}ilvl"))
        level = min(max(own if own is not None else style.list_level or 0, 0), 8)
        return level, self.numbering.mark(str(list_id), level)

    def _place(self, text: str, mark: tuple[int, str] | None, style: Style, level: int) -> None:
        if level and len(text) <= _LONGEST_HEADING:
            self._close()
            if not self.title and (style.is_title or level == 1):
                self.title = text
            self.builder.heading(f"{mark[1]} {text}" if mark and mark[1] != "-" else text, level)
        elif style.name.lower() in _CODE:
            self._line("code", text)
        elif mark is not None:
            self._line("list", "  " * mark[0] + f"{mark[1]} {text}".lstrip())
        elif style.is_contents:
            self._line("list", text)
        else:
            self._close()
            if style.name.lower() == "caption":
                self.caption = text
            else:
                self.builder.paragraph(text)

    def _line(self, kind: str, text: str) -> None:
        if self.open != kind:
            self._close()
        self.open = kind
        self.lines.append(text)

    def _close(self) -> None:
        """Write what is open: list or code, a caption without table, and notes."""
        if self.open == "code":
            self.builder.code("\n".join(self.lines))
        else:
            self.builder.items(self.lines)
        if self.caption:
            self.builder.paragraph(self.caption)
        waiting, self.notes = self.notes, []
        self.open, self.lines, self.caption = "", [], ""
        for mark, note in waiting:
            text = self._flat(note)
            self.builder.paragraph(f"[{mark}] {text}" if mark else text)

    def _attachments(self, content: Paragraph, depth: int) -> None:
        """Text boxes, charts and diagrams of a paragraph."""
        for box in content.boxes:
            if depth < _DEEPEST:
                self.blocks(box, depth + 1)
            else:
                self.builder.paragraph(_all_text(box))
        for kind, id_ in content.parts:
            root = self.package.once(self.links.get(id_, ("", ""))[1])
            if root is None:
                continue
            if kind == "chart":
                add_chart(self.builder, root)
            else:
                self.builder.items(diagram_items(root))

    def _flat(self, container: Any) -> str:
        """Text of a note or of a cell without tables, its paragraphs on one line."""
        texts = []
        for each in self._children(container, f"{W}p"):
            content = self.reader.read(each)
            texts += [content.text.strip(), *map(_all_text, content.boxes)]
        return " ".join(filter(None, texts))

    # tables

    def _table(self, element: Any, depth: int) -> None:
        caption, self.caption = self.caption, ""
        self._close()
        if depth >= _DEEPEST:
            self.builder.paragraph(_all_text(element))
            return
        rows = [(row, list(self._children(row, f"{W}tc"))) for row in self._rows(element)]
        if self._is_layout([cells for _, cells in rows]):
            self.builder.paragraph(caption)
            for cell in (cell for _, cells in rows for cell in cells):
                self.blocks(cell, depth + 1)
            return
        inner: list[Paragraph] = []
        grid = self._grid(element, rows, inner)
        add_table(self.builder, grid, header_rows=self._said_headers(rows), caption=caption)
        for content in inner:
            self.notes += content.notes
        self._close()
        for content in inner:
            self._attachments(content, depth + 1)
        for table in (t for _, cells in rows for cell in cells for t in self._children(cell, f"{W}tbl")):
            self._table(table, depth + 1)

    def _rows(self, table: Any) -> Iterator[Any]:
        for row in self._children(table, f"{W}tr"):
            if row.find(f"{W}trPr/{W}del") is None:
                yield row
            else:
                self.tally.add("tracked deletions")

    def _is_layout(self, rows: list[list[Any]]) -> bool:
        """Whether the table only arranges a page: one column, headings in cells, or a row around other tables."""
        if all(len(cells) <= 1 for cells in rows):
            return True
        cells = [cell for row in rows for cell in row]
        if len(rows) == 1 and any(cell.find(f"{W}tbl") is not None for cell in cells):
            return True
        return any(self._is_section(cell) for cell in cells)

    def _is_section(self, cell: Any) -> bool:
        paragraphs = cell.findall(f"{W}p")
        first = [each.find(f"{W}pPr") for each in paragraphs[:1]]
        level = max((self._level(p, self.styles.get(value(p, f"{W}pStyle"))) for p in first), default=0)
        return level > 0 and len(paragraphs) > 1

    def _grid(self, table: Any, rows: list[tuple[Any, list[Any]]], inner: list[Paragraph]) -> list[list[Cell]]:
        starts, spans = _spans(rows)
        first_bold = self._bold_first_row(table)
        grid = []
        for place, (row, cells) in enumerate(rows):
            line = [Cell("", columns=before)] if (before := _before(row)) else []
            for cell, column in zip(cells, starts[place], strict=True):
                if (place, column) in spans:
                    columns, deep = spans[place, column]
                    text, bold = self._cell(cell, inner)
                    line.append(Cell(text, columns, deep, bold or (first_bold and place == 0)))
            grid.append(line)
        return grid

    def _cell(self, cell: Any, inner: list[Paragraph]) -> tuple[str, bool]:
        """Text of a cell, and whether it is bold; its boxes and notes go to ``inner``."""
        texts, bold = [], True
        for each in self._children(cell, f"{W}p"):
            properties = each.find(f"{W}pPr")
            style = self.styles.get(value(properties, f"{W}pStyle"))
            content = self.reader.read(each)
            mark = self._mark(properties, style)
            if text := content.text.strip():
                texts.append(f"{mark[1]} {text}".lstrip() if mark else text)
            bold = bold and (not content.plain or bool(style.bold))
            inner.append(content)
        return " ".join(texts), bold

    def _bold_first_row(self, table: Any) -> bool:
        """Whether the style of the table sets its first row off."""
        look = table.find(f"{W}tblPr/{W}tblLook")
        style = value(table, f"{W}tblPr/{W}tblStyle")
        if look is None or style is None or not self.styles.first_row(style):
            return False
        bits = look.get(f"{W}val", "0")
        return look.get(f"{W}firstRow") == "1" or (bits.isalnum() and bool(int(bits, 16) & 0x20))

    @staticmethod
    def _said_headers(rows: list[tuple[Any, list[Any]]]) -> int | None:
        count = 0
        while count < len(rows) and switched(rows[count][0].find(f"{W}trPr"), "tblHeader"):
            count += 1
        return count if 0 < count < len(rows) else None

    # the rest

    def _count_rest(self) -> None:
        self.tally.add("comments", len(self._linked("comments", ())))
        margins = {target for kind, target in self.links.values() if kind in ("header", "footer")}
        texts = [
            _all_text(root) for each in sorted(margins) if (root := self.package.optional_xml(each)) is not None
        ]
        texts = [" ".join(text.split()) for text in texts if text.strip()]
        detail = "; ".join(text[:60] for text in texts[:3])
        self.tally.add("page headers and footers", len(texts), f"page headers and footers left out: {detail}")


def _all_text(element: Any) -> str:
    """All text below an element, without structure; each paragraph on its own line."""
    lines = ("".join(text.text or "" for text in each.iter(f"{W}t")) for each in element.iter(f"{W}p"))
    return "\n".join(line for line in lines if line.strip())


def _before(row: Any) -> int:
    return max(0, number(value(row, f"{W}trPr/{W}gridBefore")) or 0)


def _spans(rows: list[tuple[Any, list[Any]]]) -> tuple[list[list[int]], dict[tuple[int, int], tuple[int, int]]]:
    """Start column of each cell, and (columns, rows) of each that starts a merged area or stands alone."""
    starts: list[list[int]] = []
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    open_: dict[int, tuple[int, int]] = {}
    for place, (row, cells) in enumerate(rows):
        column, line = _before(row), []
        merged: dict[int, tuple[int, int]] = {}
        for cell in cells:
            properties = cell.find(f"{W}tcPr")
            width = min(max(1, number(value(properties, f"{W}gridSpan")) or 1), 1000)
            line.append(column)
            down, across = _merge(properties, "vMerge"), _merge(properties, "hMerge")
            if down == "continue" and column in open_:
                origin = open_[column]
                spans[origin] = (spans[origin][0], place - origin[0] + 1)
                merged[column] = origin
            elif across == "continue" and spans and max(spans)[0] == place:
                last = max(spans)
                spans[last] = (spans[last][0] + width, spans[last][1])
            else:
                spans[place, column] = (width, 1)
                if down is not None:
                    merged[column] = (place, column)
            column += width
        open_ = merged
        starts.append(line)
    return starts, spans


def _merge(properties: Any, name: str) -> str | None:
    found = None if properties is None else properties.find(f"{W}{name}")
    return None if found is None else found.get(f"{W}val", "continue")
