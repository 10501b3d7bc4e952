"""PPTX files: each slide with its title, texts, tables, charts and notes.

Kreuzberg joins the shapes of a slide without their tables' headers, and python-pptx needs the same walk for order,
lists and alternatives; so the parts are read directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.docx_styles import numeral
from mixrag.corpus.parsers.office.drawing import add_chart, diagram_items
from mixrag.corpus.parsers.office.equations import linear
from mixrag.corpus.parsers.office.grid import Cell, add_table
from mixrag.corpus.parsers.office.package import MC, A, M, Package, R, alternative, kind_of
from mixrag.corpus.parsers.office.tally import finish
from mixrag.corpus.parsers.raised import subscript, superscript
from mixrag.corpus.parsers.result import ParseResult
from mixrag.corpus.parsers.titles import useful_title

P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_TITLES = ("title", "ctrTitle")
_MARGINS = ("dt", "ftr", "sldNum", "hdr")
_SHAPES = (f"{P}sp", f"{P}graphicFrame", f"{P}pic")
_LISTS = (None, "body", "obj")


def read_pptx(data: bytes, name: str) -> ParseResult:
    """The document of a PPTX file, its slides in their order.

    Raises:
        UnreadableError: it is broken, encrypted or without text.
    """
    return _Presentation(Package(data, kind_of(name, ".pptx"))).result()


class _Presentation:
    def __init__(self, package: Package) -> None:
        self.package, self.builder, self.tally = package, DocumentBuilder(), package.tally
        self.title = ""

    def result(self) -> ParseResult:
        main = self.package.main("ppt/presentation.xml")
        links = self.package.links(main)
        shown = self.package.xml(main).iterfind(f"{P}sldIdLst/{P}sldId")
        for number, each in enumerate(shown, start=1):
            target = links.get(each.get(f"{R}id", ""), ("", ""))[1]
            root = self.package.once(target)
            if root is None:
                self.tally.add("missing slides", target not in self.package)
            elif root.get("show") in ("0", "false"):
                self.tally.add("hidden slides", detail="hidden slides were left out")
            else:
                _Slide(self, root, self.package.links(target)).write(number)
        return finish(self.builder, self.tally, useful_title(self.package.title()) or self.title)


class _Slide:
    def __init__(self, whole: _Presentation, root: Any, links: dict[str, tuple[str, str]]) -> None:
        self.package, self.builder, self.tally, self.whole = whole.package, whole.builder, whole.tally, whole
        self.root, self.links = root, links

    def write(self, number: int) -> None:
        self.builder.at(f"slide {number}", page=number)
        shapes = list(self._shapes(self.root.find(f"{P}cSld/{P}spTree")))
        titles = [shape for shape in shapes if _role(shape) in _TITLES]
        for shape in titles:
            text = " ".join(line for _, line in self._lines(shape.find(f"{P}txBody")))
            self.builder.heading(text, 1)
            self.whole.title = self.whole.title or text
        for shape in shapes:
            if shape not in titles:
                self._shape(shape)
        self._beside()

    def _shapes(self, tree: Any | None) -> Iterator[Any]:
        """Visible shapes in the order of reading, those of groups among them."""
        waiting = [] if tree is None else list(reversed(tree))
        while waiting:
            each = waiting.pop()
            if each.tag == f"{MC}AlternateContent":
                chosen = alternative(each)
                waiting += [] if chosen is None else list(reversed(chosen))
            elif each.tag in (f"{P}grpSp", *_SHAPES):
                if _named(each).get("hidden") in ("1", "true"):
                    self.tally.add("hidden shapes", detail="hidden shapes of slides were left out")
                elif each.tag == f"{P}grpSp":
                    waiting += reversed(each)
                else:
                    yield each

    def _shape(self, shape: Any) -> None:
        if _role(shape) in _MARGINS:
            if any(line.strip() for _, line in self._lines(shape.find(f"{P}txBody"))):
                self.tally.add("page headers and footers", detail="footers, dates and numbers of slides left out")
        elif shape.tag == f"{P}pic":
            self._picture(shape)
        elif shape.tag == f"{P}graphicFrame":
            self._frame(shape)
        else:
            self._text(shape.find(f"{P}txBody"), is_list=_role(shape) in _LISTS and _is_placeholder(shape))

    def _picture(self, shape: Any) -> None:
        self.tally.add("images", detail="images were left out but for their descriptions")
        if text := (_named(shape).get("descr") or "").strip():
            self.builder.paragraph(f"[image: {text}]")

    def _frame(self, shape: Any) -> None:
        """A table, a chart or a diagram."""
        for each in shape.iter(f"{A}tbl", "{*}chart", "{*}relIds", f"{P}oleObj"):
            kind = each.tag.rpartition("}")[2]
            if kind == "tbl":
                self._table(each)
            elif kind == "oleObj":
                self.tally.add("embedded objects")
            elif kind == "chart" and (root := self._part(each.get(f"{R}id"))) is not None:
                add_chart(self.builder, root)
            elif kind == "relIds" and (root := self._part(each.get(f"{R}dm"))) is not None:
                self.builder.items(diagram_items(root))

    def _part(self, id_: str | None) -> Any | None:
        return self.package.once(self.links.get(id_ or "", ("", ""))[1])

    def _text(self, body: Any | None, *, is_list: bool) -> None:
        lines = [(level, line) for level, line in self._lines(body) if line.strip()]
        if is_list and len(lines) > 1:
            self.builder.items(["  " * level + (line if _marked(line) else f"- {line}") for level, line in lines])
        elif any(_marked(line) for _, line in lines):
            self.builder.items(["  " * level + line for level, line in lines])
        else:
            for _, line in lines:
                self.builder.paragraph(line)

    def _lines(self, body: Any | None) -> list[tuple[int, str]]:
        """Level and text of each paragraph, with its mark where it is said."""
        lines: list[tuple[int, str]] = []
        counts: dict[int, int] = {}
        for paragraph in () if body is None else body.iterfind(f"{A}p"):
            properties = paragraph.find(f"{A}pPr")
            given = "0" if properties is None else properties.get("lvl", "0")
            level = int(given) if given in "012345678" and given else 0
            text = _paragraph(paragraph)
            mark = _mark(properties, counts, level) if text.strip() else ""
            lines.append((level, f"{mark} {text.strip()}" if mark else text.strip()))
        return lines

    def _table(self, table: Any) -> None:
        rows = []
        for row in table.iterfind(f"{A}tr"):
            cells = []
            for cell in row.iterfind(f"{A}tc"):
                if "1" in (cell.get("hMerge"), cell.get("vMerge")) or "true" in (
                    cell.get("hMerge"),
                    cell.get("vMerge"),
                ):
                    continue
                text = " ".join(line for _, line in self._lines(cell.find(f"{A}txBody")) if line)
                bold = all(each.get("b") == "1" for each in cell.iter(f"{A}rPr"))
                cells.append(Cell(text, _span(cell, "gridSpan"), _span(cell, "rowSpan"), bold and bool(text)))
            rows.append(cells)
        properties = table.find(f"{A}tblPr")
        first = properties is not None and properties.get("firstRow") in ("1", "true")
        add_table(self.builder, _first_bold(rows) if first else rows)

    def _beside(self) -> None:
        """The notes of the slide; its comments are counted."""
        for kind, target in self.links.values():
            root = self.package.once(target) if kind in ("notesSlide", "comments", "comment") else None
            if root is None:
                continue
            if kind == "notesSlide":
                self._notes(root)
            else:
                self.tally.add("comments", sum(1 for _ in root.iter("{*}cm")))

    def _notes(self, root: Any) -> None:
        texts = [
            line
            for shape in self._shapes(root.find(f"{P}cSld/{P}spTree"))
            if _role(shape) not in (*_MARGINS, "sldImg")
            for _, line in self._lines(shape.find(f"{P}txBody"))
            if line.strip()
        ]
        if texts:
            self.builder.paragraph("Notes: " + "\n".join(texts))


def _named(shape: Any) -> Any:
    """The element with name and description of a shape."""
    found = next(shape.iter(f"{P}cNvPr"), None)
    return {} if found is None else found


def _is_placeholder(shape: Any) -> bool:
    return next(shape.iter(f"{P}ph"), None) is not None


def _role(shape: Any) -> str | None:
    """What a placeholder is for; None where it does not say, or the shape is none."""
    found = next(shape.iter(f"{P}ph"), None)
    return None if found is None else found.get("type")


def _span(cell: Any, name: str) -> int:
    given = cell.get(name, "1")
    return min(int(given), 1000) if given.isdigit() and len(given) < 6 else 1


def _first_bold(rows: list[list[Cell]]) -> list[list[Cell]]:
    """The rows, the first set off as the header that the table says it is."""
    return [[Cell(cell.text, cell.columns, cell.rows, bold=True) for cell in row] for row in rows[:1]] + [
        [Cell(cell.text, cell.columns, cell.rows) for cell in row] for row in rows[1:]
    ]


def _marked(line: str) -> bool:
    head = line.split(" ", 1)[0]
    return head == "-" or (len(head) < 6 and head[-1:] in ".)")


def _mark(properties: Any, counts: dict[int, int], level: int) -> str:
    for deeper in [each for each in counts if each > level]:
        del counts[deeper]
    if properties is None:
        counts.pop(level, None)
        return ""
    numbered = properties.find(f"{A}buAutoNum")
    if numbered is None:
        counts.pop(level, None)
        return "-" if properties.find(f"{A}buChar") is not None else ""
    start = numbered.get("startAt", "1")
    counts[level] = counts.get(level, int(start) - 1 if start.isdigit() and len(start) < 6 else 0) + 1
    kind = numbered.get("type", "arabicPeriod")
    forms = {"alphaLc": "lowerLetter", "alphaUc": "upperLetter", "romanLc": "lowerRoman", "romanUc": "upperRoman"}
    form = next((name for start_, name in forms.items() if kind.startswith(start_)), "decimal")
    end = ")" if "Paren" in kind else ("." if kind.endswith("Period") else "")
    return numeral(counts[level], form) + end


def _paragraph(paragraph: Any) -> str:
    out = ""
    waiting = list(reversed(paragraph))
    while waiting:
        each = waiting.pop()
        kind = each.tag.rpartition("}")[2] if isinstance(each.tag, str) else ""
        if kind == "br":
            out += "\n"
        elif kind in ("oMath", "oMathPara") and each.tag.startswith(M[:-1]):
            out += linear(each)
        elif kind == "AlternateContent":
            chosen = alternative(each)
            waiting += [] if chosen is None else list(reversed(chosen))
        elif kind == "r" or (kind == "fld" and each.get("type") != "slidenum"):
            out += _run(each, out)
        elif kind == "m":  # the wrapper of an equation
            waiting += reversed(each)
    return out


def _run(run: Any, before: str) -> str:
    text = run.findtext(f"{A}t") or ""
    properties = run.find(f"{A}rPr")
    baseline = "" if properties is None else properties.get("baseline", "")
    if baseline in ("", "0"):
        return text
    return subscript(text, before) if baseline.startswith("-") else superscript(text, before)
