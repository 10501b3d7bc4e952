"""HTML pages inside other files: chapters of an EPUB, bodies of an e-mail."""

from __future__ import annotations

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.encoding import decode_text
from mixrag.corpus.parsers.html.page import read_page
from mixrag.corpus.parsers.office.tally import Tally
from mixrag.corpus.parsers.result import UnreadableError


def add_page(builder: DocumentBuilder, source: str, tally: Tally) -> None:
    """Write a page into the builder, and count what it leaves out; the whole page, where it cannot be read."""
    try:
        reader = read_page(source, builder)
    except UnreadableError as error:
        tally.add("pages that cannot be read", detail=str(error))
        return
    tally.extend(reader.notices())


def decoded(data: bytes, charset: str, tally: Tally) -> str:
    """Text in this charset ("" for none), else in UTF-8, else by a guess, which is counted; "" for binary data."""
    try:
        text, notices = decode_text(data, charset)
    except UnreadableError as error:
        tally.add("pages that cannot be read", detail=str(error))
        return ""
    tally.extend(notices)
    return text
