"""Markdown: CommonMark with pipe tables (markdown-it), read as the page that it stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.encoding import decode_text
from mixrag.corpus.parsers.html.page import read_page
from mixrag.corpus.parsers.html.walk import PageReader
from mixrag.corpus.parsers.result import Notice, ParseResult, UnreadableError
from mixrag.corpus.parsers.titles import useful_title
from mixrag.corpus.passage import Scalar
from mixrag.errors import MissingPackageError

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?\r?\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LONGEST_FRONT_MATTER = 65_536


def read_markdown(data: bytes, name: str) -> ParseResult:
    """One document: headings, paragraphs, lists, tables and code; its front matter is metadata and text.

    Its title is that of the front matter, else the first heading of level 1. Without the extra "files", or where
    the structure is too deep, the document is the source.

    Raises:
        UnreadableError: binary data, or no text.
    """
    text, notices = decode_text(data)
    front, body = _front_matter(text)
    builder = DocumentBuilder()
    title = str(front.pop("title", None) or "")
    builder.paragraph("\n".join(f"{key}: {value}" for key, value in front.items()))
    try:
        page = write_markdown(body, builder)
        title, notices = title or page.first_top_heading, (*notices, *page.notices())
    except (RecursionError, MissingPackageError, UnreadableError) as error:
        builder = DocumentBuilder()
        builder.paragraph(text)
        reason = "the structure is too deep" if isinstance(error, RecursionError) else str(error)
        notices = (*notices, Notice("files read without their markup", 1, reason))
    document = builder.document(useful_title(title), front)
    if not document.text.strip():
        raise UnreadableError("a file with text", "no extractable text", "leave it out")
    return ParseResult((document,), (), notices)


def write_markdown(source: str, builder: DocumentBuilder) -> PageReader:
    """Write Markdown into the builder; the reader knows its titles, and what was left out of it.

    Raises:
        RecursionError: the structure is too deep.
        UnreadableError: its HTML is.
        MissingPackageError: the extra "files" is not installed.
    """
    from markdown_it import MarkdownIt

    # What is nested deeper than maxNesting would be dropped without a word.
    page = MarkdownIt("commonmark", {"maxNesting": 100_000}).enable("table").render(source)
    return read_page(str(page), builder)


def _front_matter(text: str) -> tuple[dict[str, Scalar], str]:
    """Plain values of the YAML at the top, and the text below it."""
    found = _FRONT_MATTER.match(text[:_LONGEST_FRONT_MATTER])
    if not found:
        return {}, text
    import yaml

    try:
        loaded: Any = yaml.safe_load(found[1])
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}, text
    if not isinstance(loaded, Mapping):
        return {}, text
    values = {str(key): _scalar(value) for key, value in loaded.items() if key != "id"}
    return {key: value for key, value in values.items() if value is not None}, text[found.end() :]


def _scalar(value: Any) -> Scalar:
    if isinstance(value, list):
        plain = [str(each) for each in value if isinstance(each, str | int | float)]
        return ", ".join(plain) or None
    if value is None or isinstance(value, str | int | float):
        return value
    return None if isinstance(value, Mapping | bytes) else str(value)
