"""OpenDocument texts and presentations: headings, lists, tables, notes, slides.

Kreuzberg gives the paragraphs of an ODT file without notes and text boxes and joins the cells of its tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.docx_styles import numeral
from mixrag.corpus.parsers.office.grid import Cell, add_table
from mixrag.corpus.parsers.office.odf_text import (
    DRAW,
    OFFICE,
    PRESENTATION,
    STYLE,
    TABLE,
    TEXT,
    Content,
    OdfReader,
    OdfStyles,
)  # fmt: skip
from mixrag.corpus.parsers.office.package import Package, kind_of, local
from mixrag.corpus.parsers.office.tally import finish
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.parsers.titles import useful_title

_DEEPEST = 12
_MOST_REPEATED = 1000
_THROUGH = frozenset({"section", "index-body", "table-of-content", "alphabetical-index", "illustration-index",
                      "table-index", "object-index", "user-index", "bibliography", "index-title",
                      "numbered-paragraph", "text-box", "note-body", "g"})  # fmt: skip
_MARGINS = frozenset({"header", "footer", "date-time", "page-number", "notes", "page"})


def read_odf(data: bytes, name: str) -> ParseResult:
    """The document of an ODT or ODP file.

    Raises:
        UnreadableError: it is broken, encrypted or without text.
    """
    package = open_odf(data, name, ".odt")
    root = package.xml("content.xml")
    return _Reader(package, root).result(root)


def open_odf(data: bytes, name: str, usual: str) -> Package:
    """The archive of an OpenDocument file.

    Raises:
        UnreadableError: it is broken or encrypted.
    """
    package = Package(data, kind_of(name, usual))
    manifest = package.optional_xml("META-INF/manifest.xml")
    if manifest is not None and any(local(each) == "encryption-data" for each in manifest.iter()):
        expected = f"a {package.kind} file without a password"
        raise UnreadableError(expected, "an encrypted one", "save it without password")
    return package


def odf_title(package: Package) -> str:
    """The title in the file's metadata, where it says something."""
    root = package.optional_xml("meta.xml")
    found = None if root is None else next(root.iter("{http://purl.org/dc/elements/1.1/}title"), None)
    return "" if found is None else useful_title("".join(found.itertext()))


class _Reader:
    def __init__(self, package: Package, root: Any) -> None:
        self.package, self.builder, self.tally = package, DocumentBuilder(), package.tally
        self.styles, self.lists = OdfStyles(), dict[str, Any]()
        for part in (package.optional_xml("styles.xml"), root):
            self.styles.add(part)
            for each in () if part is None else part.iter(f"{TEXT}list-style"):
                self.lists[each.get(f"{STYLE}name", "")] = each
        self.reader = OdfReader(self.styles, self.tally)
        self.counts: dict[tuple[str, int], int] = {}
        self.notes: list[tuple[str, Any]] = []
        self.title = ""

    def result(self, root: Any) -> ParseResult:
        """The document, and what was left out of it."""
        body = root.find(f"{OFFICE}body")
        for part in () if body is None else body:
            if local(part) == "presentation":
                self._slides(part)
            else:
                self._blocks(part, 0)
        self._count_margins()
        return finish(self.builder, self.tally, odf_title(self.package) or self.title)

    def _blocks(self, container: Any, depth: int) -> None:
        """All headings, paragraphs, lists and tables of a body, section or text box."""
        for each in self._children(container):
            kind = local(each)
            if depth > _DEEPEST:
                self.builder.paragraph("\n".join("".join(p.itertext()) for p in each.iter(f"{TEXT}p", f"{TEXT}h")))
            elif kind in ("p", "h"):
                self._paragraph(each, depth)
            elif kind == "list":
                self._list(each, depth)
            elif kind == "table":
                self._table(each, depth)
            else:
                content = Content()
                self.reader.drawing(each, content)
                self.builder.paragraph(content.text)
                self._after(content, depth)

    def _children(self, container: Any) -> Iterator[Any]:
        waiting = list(reversed(container))
        while waiting:
            each = waiting.pop()
            kind = local(each)
            if kind == "tracked-changes":
                gone = sum(1 for _ in each.iter(f"{TEXT}deletion"))
                self.tally.add("tracked deletions", gone, "text that tracked changes delete was left out")
            elif kind == "section" and each.get(f"{TEXT}display") == "none":
                self.tally.add("hidden text", detail="hidden text was left out")
            elif kind in _THROUGH:
                waiting += reversed(each)
            elif kind in ("p", "h", "list", "table") or (kind and each.tag.startswith(DRAW)):
                yield each

    # paragraphs and lists

    def _paragraph(self, element: Any, depth: int) -> None:
        content = self.reader.read(element)
        text = content.text.strip()
        style = self.styles.get(element.get(f"{TEXT}style-name"))
        given = element.get(f"{TEXT}outline-level", "1")
        level = style.outline or (1 if style.title else 0)
        if local(element) == "h":
            level = int(given) if given.isdigit() and len(given) < 3 else 1
        if level and text:
            if not self.title and (style.title or level == 1):
                self.title = text
            self.builder.heading(text, level)
        else:
            self.builder.paragraph(text)
        self._after(content, depth)

    def _after(self, content: Content, depth: int) -> None:
        """Notes and text boxes of a paragraph."""
        for mark, note in content.notes:
            text = self._flat(note)
            self.builder.paragraph(f"[{mark}] {text}" if mark else text)
        for box in content.boxes:
            if local(box) == "table":
                self._table(box, depth + 1)
            else:
                self._blocks(box, depth + 1)

    def _flat(self, container: Any) -> str:
        """Text of a note or a cell, its paragraphs on one line."""
        return _joined(self._contents(container))

    def _contents(self, container: Any) -> list[Content]:
        """All paragraphs below an element but those of comments."""
        paragraphs = container.iter(f"{TEXT}p", f"{TEXT}h")
        comment = f"{OFFICE}annotation"
        return [self.reader.read(each) for each in paragraphs if next(each.iterancestors(comment), None) is None]

    def _list(self, element: Any, depth: int) -> None:
        style = element.get(f"{TEXT}style-name", "")
        if element.get(f"{TEXT}continue-numbering") != "true" and element.get(f"{TEXT}continue-list") is None:
            for key in [key for key in self.counts if key[0] == style]:
                del self.counts[key]
        items: list[str] = []
        after: list[Content] = []
        waiting = [(item, style, 0) for item in reversed(element)]
        while waiting:
            item, name, level = waiting.pop()
            if local(item) not in ("list-item", "list-header"):
                continue
            self._mark_start(item, name, level)
            inner: list[tuple[Any, str, int]] = []
            first = True
            for each in item:
                if local(each) == "list":
                    own = each.get(f"{TEXT}style-name") or name
                    inner += [(deeper, own, level + 1) for deeper in each]
                elif local(each) in ("p", "h"):
                    content = self.reader.read(each)
                    mark = self._mark(name, level) if first and local(item) == "list-item" else ""
                    first = False
                    if content.text.strip():
                        items.append("  " * min(level, 9) + f"{mark} {content.text.strip()}".lstrip())
                    after.append(content)
            waiting += reversed(inner)
        self.builder.items(items)
        for content in after:
            self._after(content, depth)

    def _mark_start(self, item: Any, name: str, level: int) -> None:
        given = item.get(f"{TEXT}start-value", "")
        if given.isdigit() and len(given) < 8:
            self.counts[name, level] = int(given) - 1

    def _mark(self, name: str, level: int) -> str:
        for key in [key for key in self.counts if key[0] == name and key[1] > level]:
            del self.counts[key]
        form = self._level(name, level)
        if form is None or local(form) != "list-level-style-number":
            return "-"
        start = form.get(f"{TEXT}start-value", "1")
        first = int(start) - 1 if start.isdigit() and len(start) < 8 else 0
        self.counts[name, level] = self.counts.get((name, level), first) + 1
        shown = form.get(f"{TEXT}display-levels", "1")
        levels = min(int(shown) if shown.isdigit() and len(shown) < 3 else 1, level + 1)
        numbers = (self._number(name, each) for each in range(level - levels + 1, level + 1))
        text = ".".join(filter(None, numbers))
        return f"{form.get(f'{STYLE}num-prefix', '')[:20]}{text}{form.get(f'{STYLE}num-suffix', '')[:20]}"

    def _number(self, name: str, level: int) -> str:
        form = self._level(name, level)
        kind = "1" if form is None else form.get(f"{STYLE}num-format", "")
        forms = {"a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman", "1": "decimal"}
        return numeral(self.counts.get((name, level), 1), forms[kind]) if kind in forms else ""

    def _level(self, name: str, level: int) -> Any | None:
        style = self.lists.get(name)
        levels = () if style is None else style
        return next((each for each in levels if each.get(f"{TEXT}level") == str(level + 1)), None)

    # tables

    def _table(self, table: Any, depth: int) -> None:
        if all(sum(local(cell) == "table-cell" for cell in row) <= 1 for row, _ in _rows(table)):
            for row, _ in _rows(table):
                for cell in row:
                    self._blocks(cell, depth + 1)
            return
        rows: list[list[Cell]] = []
        headers = 0
        inner: list[Any] = []
        for row, is_header in _rows(table):
            cells = self._cells(row, inner)
            times = _repeated(row, "number-rows-repeated") if len(rows) < _MOST_REPEATED else 1
            rows += [cells] * (times if any(cell.text for cell in cells) else 1)
            headers += is_header
        add_table(self.builder, rows, header_rows=headers or None)
        for each in inner:
            self._table(each, depth + 1)

    def _cells(self, row: Any, inner: list[Any]) -> list[Cell]:
        cells: list[Cell] = []
        for each in row:
            if local(each) != "table-cell":
                continue
            nested = list(each.iterchildren(f"{TABLE}table"))
            inner += nested
            parts = [part for part in each if local(part) != "table"] if nested else [each]
            contents = [content for part in parts for content in self._contents(part)]
            text = _joined(contents)
            bold = bool(text) and not any(content.plain for content in contents)
            wide, deep = _repeated(each, "number-columns-spanned"), _repeated(each, "number-rows-spanned")
            times = _repeated(each, "number-columns-repeated") if len(cells) < _MOST_REPEATED else 1
            cells += [Cell(text, wide, deep, bold)] * times
        return cells

    # presentations

    def _slides(self, presentation: Any) -> None:
        pages = [each for each in presentation if local(each) == "page"]
        for number, page in enumerate(pages, start=1):
            style = self.styles.element(page.get(f"{DRAW}style-name"))
            looks = () if style is None else style
            if any(each.get(f"{PRESENTATION}visibility") == "hidden" for each in looks):
                self.tally.add("hidden slides", detail="hidden slides were left out")
                continue
            self.builder.at(f"slide {number}", page=number)
            self._slide(page)

    def _slide(self, page: Any) -> None:
        shapes = [each for each in page if each.tag != f"{PRESENTATION}notes"]
        role = f"{PRESENTATION}class"
        titles = [each for each in shapes if each.get(role) == "title"]
        for each in titles:
            text = self._flat(each)
            self.builder.heading(text, 1)
            self.title = self.title or text
        for each in shapes:
            if each.get(role) in _MARGINS:
                self.tally.add("page headers and footers", detail="footers, dates and numbers of slides left out")
            elif each not in titles and isinstance(each.tag, str) and each.tag.startswith(DRAW):
                content = Content()
                self.reader.drawing(each, content)
                self.builder.paragraph(content.text)
                self._after(content, 0)
        for notes in page.iterchildren(f"{PRESENTATION}notes"):
            texts = (self._flat(each) for each in notes if each.get(role) == "notes")
            if text := "\n".join(filter(None, texts)):
                self.builder.paragraph(f"Notes: {text}")

    def _count_margins(self) -> None:
        root = self.package.optional_xml("styles.xml")
        parts = [] if root is None else list(root.iter(f"{STYLE}header", f"{STYLE}footer"))
        texts = [" ".join("".join(part.itertext()).split()) for part in parts]
        texts = [text for text in texts if text]
        detail = f"page headers and footers left out: {'; '.join(text[:60] for text in texts[:3])}"
        self.tally.add("page headers and footers", len(texts), detail)


def _joined(contents: list[Content]) -> str:
    return " ".join(text for content in contents if (text := content.text.strip()))


def _rows(table: Any) -> Iterator[tuple[Any, bool]]:
    """Visible rows, and whether each is said to be a header."""
    waiting = [(each, False) for each in reversed(table)]
    while waiting:
        each, header = waiting.pop()
        kind = local(each)
        if kind == "table-row" and each.get(f"{TABLE}visibility") != "collapse":
            yield each, header
        elif kind in ("table-header-rows", "table-rows", "table-row-group"):
            waiting += [(row, header or kind == "table-header-rows") for row in reversed(each)]


def _repeated(element: Any, name: str) -> int:
    given = element.get(f"{TABLE}{name}", "1")
    return min(max(int(given), 1), _MOST_REPEATED) if given.isdigit() and len(given) < 9 else 1
