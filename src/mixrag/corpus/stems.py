"""Stems: words without the endings of grammar, so that a question in the plural finds the singular.

The language of a word is not known, only its script; each script has the stemmer of one language. Documents and
questions are stemmed alike, so a wrong language costs precision, never a match of equal words.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import regex
import Stemmer  # Snowball, https://snowballstem.org/algorithms/

_LANGUAGES = {
    "Latin": "english",
    "Cyrillic": "russian",
    "Greek": "greek",
    "Arabic": "arabic",
    "Devanagari": "hindi",
    "Tamil": "tamil",
    "Armenian": "armenian",
}
_SCRIPT = regex.compile("|".join(rf"(?P<{script}>\p{{{script}}}+)" for script in _LANGUAGES))
_local = threading.local()  # a stemmer is of one thread


@lru_cache(maxsize=2**17)
def stem(word: str) -> str:
    """The stem of a word in lower case; words of other scripts are their own.

    >>> stem("licences"), stem("комиссии") == stem("комиссия")
    ('licenc', True)
    """
    script = _SCRIPT.match(word)
    if script is None:
        return word
    return str(_stemmer(_LANGUAGES[script.lastgroup or ""]).stemWord(word)) or word


def _stemmer(language: str) -> Any:
    known = _local.__dict__.setdefault("stemmers", {})
    if language not in known:
        known[language] = Stemmer.Stemmer(language)
    return known[language]
