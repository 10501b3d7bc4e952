"""Text from strangers, made fit to be shown: no character steers a terminal, breaks a page or forges a line."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

_NONCHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_FORBIDDEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tab and line feed
    r"\u202a-\u202e\u2066-\u2069"  # what turns the writing direction
    rf"\ud800-\udfff\ufdd0-\ufdef{_NONCHARACTERS}"  # halves of surrogate pairs, and what is not a character
)
_ANYWHERE = re.compile(f"[{_FORBIDDEN}]")
_ON_ONE_LINE = re.compile(rf"[{_FORBIDDEN}\t\n\u2028\u2029]")
_MARKDOWN = re.compile(r"([\\|<>`*\[\]])")


def printable(text: str) -> str:
    """The text for a terminal or a page: line ends are line feeds, each forbidden character is U+FFFD."""
    return _ANYWHERE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def printable_name(name: str | Path) -> str:
    r"""A path or name on one line, forbidden characters and line ends as escapes.

    >>> printable_name("a\nb.txt")
    'a\\nb.txt'
    """
    return _ON_ONE_LINE.sub(lambda found: ascii(found[0])[1:-1], unicode_path(name))


def citation_of(source: str, place: str, start: int, end: int) -> str:
    """Where a passage stands: its source, the place in it, if there is one, and its character offsets.

    >>> citation_of("fees.pdf", "page 12", 0, 47)
    'fees.pdf, page 12 [0:47]'
    """
    named = f"{source}, {place}" if place else source
    return f"{named} [{start}:{end}]"


def named_place(document: str, place: str) -> str:
    """A file by its name, or a document by its id, and the place in it, as people say it.

    >>> named_place("/files/fees.pdf", "page 12")
    'fees.pdf, page 12'
    """
    name = Path(document).name or document
    return f"{name}, {place}" if place else name


def is_unicode(text: str) -> bool:
    r"""Whether the text can be encoded: bytes of a shell that are not UTF-8 arrive as lone surrogates.

    >>> is_unicode("née"), is_unicode("n\udce9e")
    (True, False)
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def unicode_path(path: str | Path) -> str:
    """A path as text that can be stored: bytes that are not Unicode as escapes, all else as it is."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def markdown_cell(text: str) -> str:
    """The text in one cell of a Markdown table: it ends no cell early, and no markup of a name is read as such."""
    return " ".join(_MARKDOWN.sub(r"\\\1", text).split())


def strict_json(document: Any, indent: int | None = None) -> str:
    """The document as JSON, which has no infinity: log 0 becomes null."""
    return json.dumps(finite(document), ensure_ascii=False, allow_nan=False, indent=indent)


def finite(value: Any) -> Any:
    """A document as JSON can hold it: None in the place of numbers that are not finite, tuples as lists."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
