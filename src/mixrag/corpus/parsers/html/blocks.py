"""Blocks of a page, gathered while its tree is walked: running text, lines of lists, cells of tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mixrag.corpus.parsers.builder import DocumentBuilder

_SPACES = re.compile(r"[ \t\n\r\f\xa0]+")
_AROUND_BREAK = re.compile(r" *\n *")
_LONGEST_HEADING = 200
_DEEPEST_INDENT = 8
_LONGEST_BOLD_HEADING = 120


@dataclass(slots=True)
class HtmlBlock:
    """Something to write into a ``DocumentBuilder``."""

    kind: str
    """"text", "heading", "items", "code" or "table"."""
    text: str = ""
    level: int = 0
    items: list[str] = field(default_factory=list)
    cells: list[list[str | None]] = field(default_factory=list)
    header_rows: int | None = None

    def plain(self) -> str:
        """The words of the block on one line."""
        if self.kind == "items":
            return "; ".join(re.sub(r"^\s*(?:-|\d+\.) ", "", item) for item in self.items)
        if self.kind == "table":
            rows = (" | ".join(filter(None, row)) for row in self.cells)
            return "; ".join(filter(None, [self.text, *rows]))
        return " ".join(self.text.split())


def write_blocks(blocks: list[HtmlBlock], builder: DocumentBuilder) -> None:
    """Pass blocks on, in their order."""
    for block in blocks:
        if block.kind == "heading":
            builder.heading(block.text, block.level)
        elif block.kind == "items":
            builder.items(block.items)
        elif block.kind == "code":
            builder.code(block.text)
        elif block.kind == "table":
            builder.table(block.cells, header_rows=block.header_rows, caption=block.text)
        else:
            builder.paragraph(block.text)


@dataclass(slots=True)
class _Line:
    """An element whose text is one line: "heading", "item", "term" or "definition"."""

    role: str
    level: int = 0
    mark: str = ""
    written: bool = False


class Frame:
    """What is being read on the page or in a cell: text until the next boundary, open lists, finished blocks."""

    def __init__(self, *, bold_headings: bool = False) -> None:
        self.bold = 0
        self._bold_headings = bold_headings
        self._blocks: list[HtmlBlock] = []
        self._parts: list[str] = []
        self._thin = False
        """Whether some of the text is not bold."""
        self._items: list[str] = []
        self._lines: list[_Line] = []
        self._numbers: list[int | None] = []
        """Of each open list the number of its next item; None for one without numbers."""
        self._terms: list[str] = []
        self._defined = False
        self._pre = 0

    def text(self, text: str) -> None:
        """Characters, as they stand in the page."""
        if self._pre:
            self._parts.append(text)
            return
        text = _SPACES.sub(" ", text)
        if not self.bold and text != " ":
            self._thin = True
        self._parts.append(text)

    def line_break(self) -> None:
        """A ``br``."""
        self._parts.append("\n")

    def boundary(self) -> None:
        """The begin or end of a block: a new paragraph, but a space inside a line."""
        if self._pre:
            if self._parts and not self._parts[-1].endswith("\n"):
                self._parts.append("\n")
        elif not self._lines:
            self.flush()
        elif self._parts:
            self._parts.append(" ")
            line = self._lines[-1]
            if line.role == "heading" and (line.written or sum(map(len, self._parts)) > _LONGEST_HEADING):
                self.flush()

    def replaced(self, rewrite: Callable[[str, str], str]) -> Callable[[], None]:
        """A function that replaces the text from here by ``rewrite(text, text before it)``."""
        parts, start = self._parts, len(self._parts)

        def leave() -> None:
            if self._parts is parts and len(parts) > start:
                text = "".join(parts[start:])
                before = "".join(parts[max(0, start - 4) : start])
                parts[start:] = [rewrite(text, before)]

        return leave

    def open_line(self, role: str, level: int = 0) -> None:
        """A heading, term or definition begins."""
        self.flush()
        self._lines.append(_Line(role, level))

    def open_item(self, value: int | None) -> None:
        """An item of the innermost list begins; ``value`` is the number it is given."""
        self.flush()
        mark = "-"
        if self._numbers and self._numbers[-1] is not None:
            number = self._numbers[-1] if value is None else value
            self._numbers[-1] = number + 1
            mark = f"{number}."
        indent = "  " * min(max(0, len(self._numbers) - 1), _DEEPEST_INDENT)
        self._lines.append(_Line("item", mark=f"{indent}{mark} "))

    def close_line(self, role: str) -> str:
        """It ends; its text."""
        text = self._line_text()
        self.flush()
        if self._lines and self._lines[-1].role == role:
            self._lines.pop()
        return text

    def open_list(self, number: int | None) -> None:
        """A list begins; ``number`` is that of its first item, None for a list without numbers."""
        self.flush()
        self._numbers.append(number)

    def close_list(self) -> None:
        """It ends."""
        self.flush()
        if self._numbers:
            self._numbers.pop()
        if not self._numbers:
            self._end_items()

    def open_pre(self) -> None:
        """Text begins whose spaces mean something."""
        self.flush()
        self._pre += 1

    def close_pre(self) -> None:
        """It ends."""
        code = "".join(self._parts)
        self._parts = []
        self._pre -= 1
        self._thin = False
        if code.strip():
            self.add(HtmlBlock("code", code))

    def add(self, *blocks: HtmlBlock) -> None:
        """Finished blocks, after all that was read so far."""
        self.flush()
        self._end_items()
        self._blocks += blocks

    def finished(self) -> list[HtmlBlock]:
        """All blocks."""
        self.flush()
        self._end_items()
        return self._blocks

    def plain(self) -> str:
        """All words on one line."""
        return " ".join(block.plain() for block in self.finished())

    def flush(self) -> None:
        """Make a paragraph, or a line of a list, of the text so far."""
        if self._pre:
            code = "".join(self._parts)
            self._parts = []
            if code.strip():
                self._end_items()
                self._blocks.append(HtmlBlock("code", code))
            return
        text = _AROUND_BREAK.sub("\n", "".join(self._parts)).strip()
        bold = not self._thin
        self._parts = []
        self._thin = False
        if text:
            self._take(_SPACES.sub(" ", text) if self._lines else re.sub(" {2,}", " ", text), bold)

    def _line_text(self) -> str:
        return " ".join("".join(self._parts).split())

    def _take(self, text: str, bold: bool) -> None:
        line = self._lines[-1] if self._lines else None
        if line is None:
            self._end_items()
            heading = bold and self._bold_headings and _may_be_heading(text)
            self._blocks.append(HtmlBlock("heading", text, 6) if heading else HtmlBlock("text", text))
        elif line.role == "heading":
            self._end_items()
            first = not line.written and len(text) <= 2 * _LONGEST_HEADING
            self._blocks.append(HtmlBlock("heading", text, line.level) if first else HtmlBlock("text", text))
            line.written = True
        elif line.role == "term":
            self._terms = [text] if self._defined else [*self._terms, text]
            self._defined = False
        elif line.role == "definition":
            self._items.append(f"{'; '.join(self._terms)}: {text}" if self._terms else text)
            self._defined = True
        else:
            self._end_terms()
            self._items.append((" " * len(line.mark) if line.written else line.mark) + text)
            line.written = True

    def _end_terms(self) -> None:
        """Terms that have no definition of their own."""
        if self._terms and not self._defined:
            self._items += self._terms
            self._defined = True

    def _end_items(self) -> None:
        self._end_terms()
        self._terms = []
        if self._items:
            self._blocks.append(HtmlBlock("items", items=self._items))
            self._items = []


def _may_be_heading(text: str) -> bool:
    """Whether a paragraph that is all bold reads as a heading."""
    short = len(text) <= _LONGEST_BOLD_HEADING and "\n" not in text and text[-1] not in ".,;"
    return short and any(map(str.isalpha, text))
