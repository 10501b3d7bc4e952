"""Superscripts and subscripts on the line, so that they never join the number in front of them."""

from __future__ import annotations

import re

_ORDINAL = re.compile(r"st|nd|rd|th|er|re|e|o|a|me|ème|ère|nde|os|as|ª|º|™|®|©|tm|sm|lle|r|rs", re.IGNORECASE)
_SIMPLE = re.compile(r"[-+−–]?[\w.,]+|['′″*°]+")


def superscript(text: str, before: str) -> str:
    """What stands for a superscript after ``before``: "10" and "6" give "^6", "1" and "st" "st".

    Characters such as ⁶ are not used: normalisation (NFKC) makes digits of them, and 106 of 10⁶.
    """
    text = text.strip()
    if not text or re.fullmatch(r"[\[({*†‡§°′″].*", text, re.DOTALL):  # marks stand apart by themselves
        return text
    if _ORDINAL.fullmatch(text) and before[-1:].isalnum():
        return text
    if before[-1:].isspace() or not before:
        return text
    return f"^{text}" if _SIMPLE.fullmatch(text) else f"^({text})"


def subscript(text: str, before: str) -> str:
    """What stands for a subscript after ``before``: "H" and "2" give "2" (H2O), "10" and "2" "_2"."""
    text = text.strip()
    if not text or (before[-1:].isalpha() and text.isdigit()) or not before or before[-1:].isspace():
        return text
    return f"_{text}" if _SIMPLE.fullmatch(text) else f"_({text})"


def note_mark(text: str) -> str:
    """A mark of a footnote, apart from the number or word in front of it: "1" gives "[1]"."""
    text = text.strip()
    return text if not text or re.fullmatch(r"\W.*", text, re.DOTALL) else f"[{text}]"
