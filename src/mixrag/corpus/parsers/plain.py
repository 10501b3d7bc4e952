"""Plain text and source code: paragraphs, underlined headings, blocks of lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.cleaning import plain_characters
from mixrag.corpus.parsers.encoding import decode_text
from mixrag.corpus.parsers.result import Notice, ParseResult, UnreadableError

_CODE = """
py pyi pyx js mjs cjs jsx ts tsx vue svelte java kt kts scala groovy gradle clj c h cc cpp cxx hh hpp hxx cs fs vb
go rs rb php pl pm lua r jl swift m mm hs ml ex exs erl dart asm sh bash zsh fish ps1 bat cmd sql graphql proto tf
cmake mk css scss less yaml yml toml ini cfg conf properties log diff patch bib
"""
CODE_SUFFIXES = tuple(f".{name}" for name in _CODE.split())
"""Suffixes of source code, settings and logs."""
_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}")
_MOST_LINES = 60
"""Of a block of source code."""
_CLOSING = re.compile(r"[)}\]]|end\b|else\b|elif\b|except\b|finally\b|fi\b|done\b|esac\b", re.IGNORECASE)


class Headings:
    """Underlined titles of a text; each kind of line is a level of its own, in the order of their first use."""

    def __init__(self) -> None:
        self._kinds: list[str] = []

    def title(self, lines: Sequence[str]) -> tuple[str, int, int]:
        """Title and level at the top of the lines, and how many lines they take; 0 where there is none."""
        over = int(len(lines) > 2 and _is_line(lines[0]) and lines[0].rstrip() == lines[2].rstrip())
        if len(lines) < 2 + over or not _is_line(lines[1 + over]) or _is_line(lines[over]):
            return "", 0, 0
        title, line = lines[over].strip(), lines[1 + over].rstrip()
        if not any(map(str.isalnum, title)) or not -2 <= len(line) - len(title) <= max(6, len(title)):
            return "", 0, 0
        kind = line[0] * (1 + over)
        if kind not in self._kinds:
            self._kinds.append(kind)
        return title, self._kinds.index(kind) + 1, 2 + over


def read_text(data: bytes, name: str) -> ParseResult:
    """One document of paragraphs and underlined headings; form feeds part its pages.

    Raises:
        UnreadableError: binary data, or no text.
    """
    text, notices = decode_text(data)
    builder, headings = DocumentBuilder(), Headings()
    pages = text.split("\f")
    for number, page in enumerate(pages, start=1):
        if len(pages) > 1:
            builder.at(f"page {number}", page=number)
        for paragraph in paragraphs(plain_characters(page).split("\n")):
            title, level, used = headings.title(paragraph)
            if used:
                builder.heading(title, level)
            builder.paragraph("\n".join(paragraph[used:]))
    return one_text(builder, notices)


def read_code(data: bytes, name: str) -> ParseResult:
    """One document of a source file: blocks of lines, parted at blank lines before what is not indented.

    The place of each is its first line.

    Raises:
        UnreadableError: binary data, or no text.
    """
    text, notices = decode_text(data)
    builder = DocumentBuilder()
    for line, block in _code_blocks(plain_characters(text).split("\n")):
        builder.at(f"line {line}")
        builder.code("\n".join(block))
    return one_text(builder, notices)


def one_text(builder: DocumentBuilder, notices: Sequence[Notice], title: str = "") -> ParseResult:
    """The result of a file that is one document.

    Raises:
        UnreadableError: nothing was written.
    """
    document = builder.document(title)
    if not document.text.strip():
        raise UnreadableError("a file with text", "no extractable text", "leave it out")
    return ParseResult((document,), (), tuple(notices))


def paragraphs(lines: Sequence[str]) -> Iterator[list[str]]:
    """Lines between blank ones."""
    paragraph: list[str] = []
    for line in (*lines, ""):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _is_line(text: str) -> bool:
    return bool(_UNDERLINE.fullmatch(text.strip()))


def _code_blocks(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line, from 1, and lines of each block."""
    start, blank = 0, False
    for number, line in enumerate(lines):
        top = bool(line.strip()) and not line[0].isspace() and not _CLOSING.match(line)
        if number > start and ((blank and top) or number - start >= _MOST_LINES):
            yield start + 1, list(lines[start:number])
            start = number
        blank = not line.strip()
    yield start + 1, list(lines[start:])
