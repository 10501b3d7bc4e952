"""Text and blocks of a document, put together in the order of reading: what all built-in parsers write into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mixrag.corpus.parsers.cleaning import clean, clean_line, plain_characters
from mixrag.corpus.parsers.table import Cells, table_lines
from mixrag.corpus.passage import Block, BlockKind, Document, Scalar


class DocumentBuilder:
    r"""Gathers headings, paragraphs, lists, tables and code, and knows the place that they stand in.

    Everything is cleaned (``cleaning.py``), so that parsers pass on what they read.

    >>> builder = DocumentBuilder()
    >>> builder.at("page 1", page=1)
    >>> builder.heading("Fees", 1)
    >>> builder.table([["", "2023"], ["Ferry", "12"]], header_rows=1)
    >>> builder.document().text
    'Fees\n\nFerry | 2023: 12'
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0
        self._place = ""
        self._page: int | None = None

    def at(self, place: str, page: int | None = None) -> None:
        """What follows stands on this page, slide or sheet."""
        self._place, self._page = place, page

    def heading(self, text: str, level: int) -> None:
        """A heading on one line; ``level`` 1 is the highest."""
        self._add(clean_line(text), "heading", level=max(1, level))

    def paragraph(self, text: str) -> None:
        """A paragraph, whose line breaks stay."""
        self._add(clean(text), "text")

    def items(self, items: Sequence[str]) -> None:
        """A list: one line an item, each with its mark and, for an item of an inner list, its indentation."""
        self._add("\n".join(line for item in items if (line := clean_line(item, keep_indent=True))), "list")

    def code(self, text: str) -> None:
        """Text whose spaces and line breaks mean something."""
        lines = (line.rstrip() for line in plain_characters(text).expandtabs(4).split("\n"))
        self._add("\n".join(lines).strip("\n"), "code")

    def table(self, cells: Cells, *, header_rows: int | None = None, caption: str = "") -> None:
        """A table: rows of cells, all of one length where the caller knows the columns.

        Args:
            cells: text of each cell; a cell over several rows stands in each of them, and one over several
                columns in the first, followed by None.
            header_rows: how many rows at the top are column headers; None: found by their content.
            caption: what the document calls the table.
        """
        lines, above = table_lines(cells, header_rows, clean_line(caption))
        self._add("\n".join(lines), "table", caption=above)

    def document(
        self, title: str = "", metadata: Mapping[str, Scalar] | None = None, id: str | None = None
    ) -> Document:
        """The document with all that was added."""
        title = clean_line(title)
        return Document("".join(self._texts), id, title, dict(metadata or {}), tuple(self._blocks))

    def _add(self, text: str, kind: BlockKind, *, level: int = 0, caption: str = "") -> None:
        if not text.strip():
            return
        if self._texts:
            self._texts.append("\n\n")
            self._length += 2
        start = self._length
        self._texts.append(text)
        self._length += len(text)
        self._blocks.append(Block(start, self._length, kind, level, self._page, self._place, caption))
