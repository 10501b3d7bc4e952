"""Text as people read it: line ends, invisible characters and ligatures made plain; nothing visible is lost."""

from __future__ import annotations

import re

_LINE_END = re.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
# Soft hyphens and zero-width characters are no part of a word; joiners of emoji and Indic scripts are.
_INVISIBLE = re.compile(r"[\u00ad\u200b\u2060\ufeff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LIGATURES = dict(enumerate(("ff", "fi", "fl", "ffi", "ffl", "st", "st"), start=0xFB00))
_PLAIN = _LIGATURES | {0xA0: " ", 0x202F: " ", 0x2011: "-"}
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


def plain_characters(text: str) -> str:
    r"""The text with ``\n`` as its only line end, without invisible and control characters and ligatures.

    Halves of surrogate pairs, which cannot be stored, become U+FFFD.
    """
    text = _SURROGATE.sub("\ufffd", _LINE_END.sub("\n", text))
    return _CONTROL.sub("", _INVISIBLE.sub("", text)).translate(_PLAIN)


def clean(text: str) -> str:
    """``plain_characters``, without spaces at line ends and with at most one blank line in a row."""
    lines = (line.rstrip() for line in plain_characters(text).split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def clean_line(text: str, *, keep_indent: bool = False) -> str:
    """``plain_characters`` on one line, each run of whitespace a single space."""
    text = plain_characters(text)
    indent = text[: len(text) - len(text.lstrip(" "))] if keep_indent else ""
    return (indent + " ".join(text.split())) if text.strip() else ""
