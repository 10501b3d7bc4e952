"""PDF files for tests: lines of text put at places of a page, in points from its top left corner."""

from __future__ import annotations

from typing import Any

from fpdf import FPDF

from mixrag.corpus.parsers.pdf.document import read_pdf
from mixrag.corpus.parsers.pdf.ocr import Ocr
from mixrag.corpus.parsers.result import ParseResult
from mixrag.corpus.passage import Block, Document


class Pages(FPDF):
    """A file of letter pages (612 x 792 points)."""

    def __init__(self, size: float = 10) -> None:
        super().__init__(unit="pt", format="letter")
        self.set_auto_page_break(False)
        self.text_size = size
        self.new_page()

    def new_page(self) -> None:
        """A further page."""
        self.add_page()
        self.set_font("times", size=self.text_size)

    def put(self, x: float, y: float, text: str, *, size: float = 0, bold: bool = False) -> float:
        """Text whose baseline begins at a place; returns where it ends."""
        self.set_font("times", style="B" if bold else "", size=size or self.text_size)
        self.text(x, y, text)
        return x + float(self.get_string_width(text))

    def right(self, x: float, y: float, text: str, *, bold: bool = False) -> None:
        """Text that ends at a place."""
        self.set_font("times", style="B" if bold else "", size=self.text_size)
        self.text(x - self.get_string_width(text), y, text)

    def lines(self, x: float, y: float, lines: list[str], leading: float = 12) -> float:
        """Lines below each other; returns the baseline after the last."""
        for number, line in enumerate(lines):
            self.put(x, y + leading * number, line)
        return y + leading * len(lines)

    def rows(self, y: float, rows: list[list[str]], edges: list[float], leading: float = 13) -> float:
        """Rows with their first cell at 72 and the others ending at ``edges``."""
        for row in rows:
            self.put(72, y, row[0])
            for x, cell in zip(edges, row[1:], strict=False):
                self.right(x, y, cell)
            y += leading
        return y

    def bytes(self) -> bytes:
        """The file."""
        return bytes(self.output())


def read(pages: Pages | bytes, ocr: Ocr | None = None) -> ParseResult:
    data = pages if isinstance(pages, bytes) else pages.bytes()
    return read_pdf(data, "a.pdf", ocr) if ocr else read_pdf(data, "a.pdf")


def document(pages: Pages | bytes) -> Document:
    (only,) = read(pages).documents
    return only


def text(pages: Pages | bytes) -> str:
    return document(pages).text


def blocks(pages: Pages | bytes, **having: Any) -> list[tuple[Block, str]]:
    """The blocks that have these attributes, with their texts."""
    found = document(pages)
    chosen = [b for b in found.blocks if all(getattr(b, name) == value for name, value in having.items())]
    return [(block, found.text[block.start : block.end]) for block in chosen]


def notices(pages: Pages | bytes) -> dict[str, int]:
    return {notice.kind: notice.count for notice in read(pages).notices}
