"""HTML pages: the tree that a browser builds (selectolax), read into text with its structure.

Neither kreuzberg, whose plain output loses text next to block elements, nor libxml2, which drops text below 255
nested elements and builds other trees than browsers do.
"""

from __future__ import annotations

import re

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.encoding import decode_text, html_encoding
from mixrag.corpus.parsers.html.walk import PageReader
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.parsers.titles import useful_title
from mixrag.utils.extras import require

_MOST_ATTRIBUTES = 5_000
_MOST_DEPTH = 10_000
_MOST_OPTIONS = 20_000
_LONG_TAG = re.compile(r"<[a-zA-Z][^<>]{20000,}")
_QUOTED = re.compile(r""""[^"]*"|'[^']*'""")
_RAW = re.compile(r"<(script|style|svg)\b.*?(?:</\1|$)|<!--.*?(?:-->|$)", re.IGNORECASE | re.DOTALL)
# Those that stay open until they are closed.
_NESTING = re.compile(
    r"<(/?)(?:div|span|section|article|main|aside|header|footer|blockquote|center|ul|ol|dl|table"
    r"|form|fieldset|details)\b",
    re.IGNORECASE,
)


def read_html(data: bytes, name: str) -> ParseResult:
    """One document: headings, paragraphs, lists, tables and code of a page in the order of reading.

    Navigation, scripts, styles and hidden elements are left out; the last are counted.

    Raises:
        UnreadableError: binary data, no text, or a page made to exhaust its reader.
    """
    source, notices = decode_text(data, html_encoding(data))
    builder = DocumentBuilder()
    page = read_page(source, builder)
    document = builder.document(useful_title(page.title) or useful_title(page.first_heading))
    if not document.text.strip():
        raise UnreadableError("a file with text", "no extractable text", "leave it out")
    return ParseResult((document,), (), (*notices, *page.notices()))


def read_page(source: str, builder: DocumentBuilder) -> PageReader:
    """Write a page into the builder; the reader knows its titles, and what was left out of it.

    Raises:
        UnreadableError: more attributes in a tag, or elements in each other, than a reader should follow.
    """
    _check_bounds(source)
    selectolax = require("selectolax.lexbor", "files", "HTML")
    reader = PageReader()
    if (root := selectolax.LexborHTMLParser(source).root) is not None:
        reader.read(root)
    reader.write(builder)
    return reader


def _check_bounds(source: str) -> None:
    """Refuse what takes the parser a time that grows with the square of the length."""
    for tag in _LONG_TAG.findall(source):
        if (found := len(_QUOTED.sub("", tag).split())) > _MOST_ATTRIBUTES:
            expected = f"at most {_MOST_ATTRIBUTES:,} attributes in a tag"
            raise UnreadableError(expected, f"about {found:,}", "remove them or leave the file out")
    if (found := source.count("<option")) > _MOST_OPTIONS:
        raise UnreadableError(f"at most {_MOST_OPTIONS:,} options", f"{found:,}", "leave the file out")
    if source.count("<") > _MOST_DEPTH and (found := _depth(_RAW.sub("", source))) > _MOST_DEPTH:
        expected = f"at most {_MOST_DEPTH:,} elements in each other"
        raise UnreadableError(expected, f"about {found:,}", "close them or leave the file out")


def _depth(source: str) -> int:
    """How many elements are open at a time, at most."""
    depth = deepest = 0
    for close in _NESTING.findall(source):
        depth = max(0, depth - 1) if close else depth + 1
        deepest = max(deepest, depth)
    return deepest
