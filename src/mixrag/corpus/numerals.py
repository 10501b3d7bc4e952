"""Numbers as words: one spelling for 1250, 1,250, 1.250, 1 250 and 1'250, another for 1.25."""

from __future__ import annotations

import regex

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Inside brackets: characters of scripts that put no spaces between words."""
SPACED = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}\p{{Hangul}}]]"
"""A letter or digit of a word between spaces; needs regex.VERSION1."""
_GROUPED = r"[1-9][0-9]{0,2}(?:(?P<mark>[,.'\0])[0-9]{3})(?:(?P=mark)[0-9]{3})*"
_INDIAN = r"[1-9][0-9]?(?:,[0-9][0-9])+,[0-9]{3}"


_JOINT = "\0"
_SPACED_GROUPS = regex.compile(r"(?<![0-9][.,']?)[1-9][0-9]{0,2}(?: [0-9]{3})+(?![0-9])")

NUMBER = (
    rf"(?<!{SPACED}|_|{SPACED}[.,'])(?:{_INDIAN}|{_GROUPED})(?:[.,][0-9]+)?(?!{SPACED}|_|[.,']{SPACED})"
    rf"|(?<!{SPACED}|_|{SPACED}[.,'\-/:])[0-9]+(?:[.,][0-9]+)?(?!{SPACED}|_|[.,'\-/:]{SPACED})"
)
"""Pattern of a number that stands alone: neither part of a word or code nor of a date or version."""


def joined_groups(text: str) -> str:
    """The text where spaces between groups of three digits, as in 1 250, no longer divide them."""
    joined: str = _SPACED_GROUPS.sub(lambda found: found.group().replace(" ", _JOINT), text)
    return joined


def readings(number: str) -> tuple[str, ...]:
    """The words of a number; of one with spaces also its parts, for they may be numbers of their own.

    >>> readings("1.250"), readings("1,250.50"), readings(joined_groups("1 250"))
    (('1250',), ('1250.5',), ('1250', '1', '250'))
    """
    whole, fraction = _divided(number)
    digits = regex.sub(r"\D", "", whole)
    joined = f"{digits}.{fraction}" if fraction else digits
    parts = number.split(_JOINT) if _JOINT in number else []
    return (joined, *(word for part in parts for word in readings(part)))


def _divided(number: str) -> tuple[str, str]:
    """Whole part, and the fraction without zeros at its end."""
    if regex.fullmatch(rf"{_INDIAN}|{_GROUPED}|[0-9]+", number):
        return number, ""
    whole, _, fraction = number.replace(",", ".").rpartition(".")
    return whole, fraction.rstrip("0")
