"""Raised and lowered characters in plain text: 10⁶ must not become 106, nor a footnote mark join its number."""

from __future__ import annotations

_VARIABLES = frozenset("ijkmnptxT")


def raised(before: str, text: str) -> str:
    """What stands for raised text behind ``before``: "10" and "6" give "^6", "1" and "st" give "st".

    >>> raised("x", "2"), raised("10", "-6"), raised("1", "st"), raised("x", "n+1")
    ('^2', '^-6', 'st', '^(n+1)')
    """
    if text.strip().isalpha() and text.strip() not in _VARIABLES:
        return text
    return _script(before, text, "^")


def lowered(before: str, text: str) -> str:
    """What stands for lowered text: "CO" and "2" give "2", as people write it; "10" and "2" give "_2"."""
    return _script(before, text, "_") if before[-1:].isdigit() else text


def script(text: str) -> str:
    """An exponent or index behind its sign: in parentheses unless it is a single word or number."""
    text = text.strip()
    plain = text[1:] if text[:1] in "+-−" else text
    return text if plain.isalnum() else f"({text})"


def _script(before: str, text: str, mark: str) -> str:
    if not text.strip() or not before or before[-1].isspace():
        return text
    inner = text.strip()
    return f"{mark}{script(inner)}" if any(character.isalnum() for character in inner) else text
