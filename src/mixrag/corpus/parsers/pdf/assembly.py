"""The pieces of all pages as one document: sentences that run over a page end, headings with their levels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.pdf.blocks import Piece
from mixrag.corpus.parsers.pdf.hyphens import Joiner
from mixrag.corpus.parsers.titles import useful_title
from mixrag.corpus.passage import Document

_LEVELS = 6
_HEADING_LENGTH = 200
_LARGE = 1.15
"""Size of a heading, in units of that of the text."""
_STOP = re.compile(r"[.!?。！？][\"'”’»)\]]*(?=\s+[^\Wa-z_]|\s*$)")
_ABBREVIATION = re.compile(
    r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|No|Inc|Co|Corp|Ltd|St|vs|e\.g|i\.e|approx|U\.S|cf|Fig|Art)\.$"
)


def assemble(pages: list[list[Piece]], title: str) -> Document:
    """The document; without a title, the largest heading of its first two pages is one."""
    size = _body_size(pages)
    _join_pages(pages, size)
    joiner = Joiner(line for page in pages for piece in page for line in piece.lines)
    levels = _levels(pages, size)
    builder = DocumentBuilder()
    found = [(0.0, "")]
    for number, page in enumerate(pages, start=1):
        builder.at(f"page {number}", page=number)
        for piece, heading in _write(builder, page, joiner, size, levels):
            if number <= 2 and piece.size >= _LARGE * size and len(heading) >= 3:
                found.append((piece.size, heading))
    largest = max(found, key=lambda each: each[0])[1]
    return builder.document(title or useful_title(largest))


def _body_size(pages: Sequence[Sequence[Piece]]) -> float:
    sizes: Counter[float] = Counter()
    for page in pages:
        for piece in page:
            sizes[round(piece.size * 2) / 2] += sum(map(len, piece.lines))
    del sizes[0.0]
    return sizes.most_common(1)[0][0] if sizes else 10.0


def goes_on(before: Piece, after: Piece) -> bool:
    """Whether a paragraph that ends a page or a column goes on in the next one."""
    if before.kind == "table" or before.kind == "lines" or after.kind != "text" or not before.lines or before.ends:
        return False
    if abs(before.size - after.size) > 0.08 * before.size or before.bold != after.bold:
        return False
    first = after.lines[0][:1]
    return first.islower() or before.lines[-1].endswith("-") or (before.full and len(before.lines) > 1)


def _join_pages(pages: list[list[Piece]], size: float) -> None:
    """Move the end of a sentence that begins on one page and ends on the next to where it begins."""
    last: Piece | None = None
    for page in pages:
        if last is not None and page and goes_on(last, page[0]):
            lines, rest = _sentence_end(page[0].lines)
            last.lines += lines
            if rest:
                page[0].lines = rest
            else:
                last.full = page.pop(0).full
                if not page:
                    continue
        # Footnotes stand between the text of a page and that of the next.
        texts = [piece for piece in page if piece.size > 0.92 * size or piece.kind in ("table", "lines")]
        last = texts[-1] if texts else None


def _sentence_end(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines up to the first end of a sentence, and those after it."""
    for number, line in enumerate(lines):
        for match in _STOP.finditer(line):
            if _ABBREVIATION.search(line[: match.start() + 1]):
                continue
            head, tail = line[: match.end()], line[match.end() :].strip()
            return [*lines[:number], head], ([tail] if tail else []) + lines[number + 1 :]
    return lines, []


def _levels(pages: Sequence[Sequence[Piece]], size: float) -> dict[tuple[float, bool], int]:
    """The level of each style of heading: 1 for the largest."""
    styles = {_style(piece) for page in pages for piece in page if _is_heading(piece, size)}
    return {style: min(level, _LEVELS) for level, style in enumerate(sorted(styles, reverse=True), start=1)}


def _style(piece: Piece) -> tuple[float, bool]:
    return round(piece.size * 2) / 2, piece.bold


def _is_heading(piece: Piece, size: float) -> bool:
    if piece.kind not in ("text", "item") or not 1 <= len(piece.lines) <= 4:
        return False
    text = " ".join(piece.lines)
    if len(text) > _HEADING_LENGTH or sum(map(str.isalpha, text)) < 3 or text.startswith("•"):
        return False
    if piece.size >= _LARGE * size:
        return not (len(text) > 80 and text.endswith("."))
    return piece.bold and piece.size > 0.9 * size and not text.endswith((".", ",", ";"))


def _write(
    builder: DocumentBuilder,
    page: Sequence[Piece],
    joiner: Joiner,
    size: float,
    levels: dict[tuple[float, bool], int],
) -> Iterator[tuple[Piece, str]]:
    """Put a page into the builder; yields its headings."""
    kinds = [("heading" if _is_heading(piece, size) else piece.kind, piece) for piece in page]
    runs = [(kind, [piece for _, piece in run]) for kind, run in groupby(kinds, key=lambda each: each[0])]
    for kind, run in runs:
        if kind == "heading":
            for piece in run:
                text = joiner.join(piece.lines)
                builder.heading(text, levels[_style(piece)])
                yield piece, text
        elif kind == "item" and (len(run) > 1 or run[0].lines[0].startswith("•")):
            left = min(piece.indent for piece in run)
            builder.items([f"{_indent(piece, left)}{joiner.join(piece.lines)}" for piece in run])
        elif kind in ("table", "lines"):
            for piece in run:
                builder.table(piece.cells, header_rows=piece.header_rows, caption=piece.caption)
        else:
            for piece in run:
                builder.paragraph(joiner.join(piece.lines))


def _indent(piece: Piece, left: float) -> str:
    return "  " * min(4, round((piece.indent - left) / max(1.5 * piece.size, 1)))
