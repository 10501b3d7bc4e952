"""Whether a question is in a language that the default encoder, which learnt English, does not know."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

_WORD = re.compile(r"[^\W\d_]+")
_LIST = """
about after and any are at be by can did does for from had has have how if in is it its many much my not of on or
our should tell that the their there they this to we were what when where which who whom whose why with would you
your
"""
_ENGLISH = frozenset(_LIST.split())
"""Words of nearly every English question, but none that other languages write as well (a, i, an, was, will)."""
_SCRIPTS = {"CJK": "Chinese or Japanese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
_PIECES = 1.7
"""Pieces of a word, on average, from which on a tokenizer does not know the words."""


def unknown_language(question: str, pieces: Callable[[str], Sequence[str]]) -> str | None:
    """What the question is written in, if that is not English; None where it may be.

    Most letters are of another script; or they are Latin, no word is one that nearly every English question has,
    and the tokenizer cuts the words that are no names into many pieces.

    >>> unknown_language("Когда отправляется паром?", str.split)
    'Cyrillic letters'

    Args:
        question: any text.
        pieces: the tokenizer of an English encoder.
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", question))
    scripts = Counter(_script(letter) for word in words for letter in word)
    if not scripts:
        return None
    latin = scripts.pop("LATIN", 0)
    if scripts.total() > latin:
        script = scripts.most_common(1)[0][0]
        return _SCRIPTS.get(script) or f"{script.capitalize()} letters"
    lower = [word for word in words if word.islower()]  # names are cut into pieces in English, too
    if len(words) < 4 or len(lower) < 2 or not _ENGLISH.isdisjoint(word.lower() for word in words):
        return None
    count = len(pieces(" ".join(lower)))
    return "a language other than English" if count >= _PIECES * len(lower) else None


def _script(letter: str) -> str:
    """The first word of a letter's name, which is its script."""
    return unicodedata.name(letter, "UNKNOWN").split()[0]
