"""Files of old Word and PowerPoint (DOC, PPT) and of Outlook (MSG), through kreuzberg: their markup is binary."""

from __future__ import annotations

import re
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.package import kind_of
from mixrag.corpus.parsers.office.tally import Tally, finish
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.parsers.titles import useful_title
from mixrag.utils.extras import require

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MIME = {
    "WordDocument": "application/msword",
    "PowerPoint Document": "application/vnd.ms-powerpoint",
    "__properties_version1.0": "application/vnd.ms-outlook",
}
"""Kinds by the name of a stream in the directory of the container."""


def read_legacy(data: bytes, name: str) -> ParseResult:
    """The document of a file of old Office or Outlook.

    Raises:
        UnreadableError: it is broken, encrypted, of another kind, or without text.
    """
    suffix = kind_of(name, ".doc")
    if has_stream(data, "EncryptedPackage"):
        expected = f"a {suffix} file without a password"
        raise UnreadableError(expected, "an encrypted one", "save it without password")
    mime = next((mime for stream, mime in _MIME.items() if has_stream(data, stream)), None)
    if mime is None:
        raise UnreadableError(f"a valid {suffix} file", "another kind of container", "give it its real suffix")
    kreuzberg = require("kreuzberg", "files", suffix)
    config = kreuzberg.ExtractionConfig(use_cache=False, output_format="plain", include_document_structure=True)
    result = kreuzberg.extract_bytes_sync(data, mime, config=config)
    builder, tally = DocumentBuilder(), Tally()
    nodes = [node.get("content", {}) for node in (result.document or {}).get("nodes", ())]
    _add_nodes(builder, nodes, tally)
    found = len(re.findall(r"\w", builder.document().text))
    if found < 0.9 * len(re.findall(r"\w", result.content)):  # the structure lacks some of the text
        builder = DocumentBuilder()
        for paragraph in re.split(r"\n\s*\n", result.content):
            builder.paragraph(paragraph)
    title = dict(result.metadata).get("title") or dict(result.metadata).get("subject") or ""
    return finish(builder, tally, useful_title(title) if isinstance(title, str) else "")


def has_stream(data: bytes, name: str) -> bool:
    """Whether the directory of a container names a stream."""
    return f"{name}\0".encode("utf-16-le") in data


def _add_nodes(builder: DocumentBuilder, nodes: list[dict[str, Any]], tally: Tally) -> None:
    slides = 0
    for node in nodes:
        kind, text = node.get("node_type", ""), node.get("text") or ""
        if kind == "slide":
            slides += 1
            builder.at(f"slide {slides}", page=slides)
        elif kind in ("title", "heading"):
            builder.heading(text, int(node.get("level") or 1))
        elif kind == "list_item":
            builder.items([f"- {text}"])
        elif kind == "table":
            builder.table(_grid(node))
        elif kind == "image":
            tally.add("images")
        elif kind != "group":
            builder.paragraph(text)


def _grid(node: dict[str, Any]) -> list[list[str]]:
    grid = node.get("grid") or {}
    rows = [[""] * int(grid.get("cols", 0)) for _ in range(int(grid.get("rows", 0)))]
    for cell in grid.get("cells", ()):
        rows[cell["row"]][cell["col"]] = cell.get("content") or ""
    return rows
