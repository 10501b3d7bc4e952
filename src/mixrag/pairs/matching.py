"""When an answer is right: SQuAD's exact match and F1, and words in a row.

Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", with the normalisation of
their script: lower case, no punctuation, no articles, single spaces. Here punctuation is that of every script, and
compatibility forms such as ligatures are one with their letters. A decimal point, a minus sign, and the plus and
number signs at the end of a word stay: 1.5 is not 15, -5 is not 5 and C++ is not C, though to their script they
are equal. Where this leaves nothing of a gold answer ("A",
"+"), both sides are compared by the strongest normalisation that leaves something of it.
"""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SIGNS = re.compile(r"\d,\d|\.\d|[-\u2212]|\w[+#]")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)")
_POINT = re.compile(r"(?<=\d)\.(?=\d)")
_BARE_POINT = re.compile(r"(?<![\w.)\]])\.(?=\d)")
_MINUS = re.compile(r"(?<![\w.,)\]%])[-\u2212]([$\u20ac\u00a3\u00a5]?)(?=\d)")
_NAME_SIGNS = re.compile(r"(?<=[^\W\d_])(?:\+{1,2}|#)(?![\w+#])")
_LETTERS = re.compile(r"[^\W_]+")
_MARKS = {".": "\ue000", "-": "\ue001", "+": "\ue002", "#": "\ue003"}
"""Private characters in the place of signs that are no punctuation there."""
_SHOWN = str.maketrans({mark: sign for sign, mark in _MARKS.items()})
_SHOWN_KEYS = frozenset(_MARKS.values())
# Written without spaces (Thai, Lao, Burmese, Khmer, kana, ideographs), or with spaces between phrases (Hangul).
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff])"
)


def normalise(text: str) -> str:
    """SQuAD's normalisation; where it leaves nothing, articles stay, and at last punctuation too.

    >>> normalise("The  Denver Broncos!"), normalise("A."), normalise(" + ")
    ('denver broncos', 'a', '+')
    """
    return _level(text)(text)


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1.0 where the normalised answer is one of the normalised gold answers (A,), else 0.0; of none, 0.0."""
    return max((float(level(answer) == level(gold)) for level, gold in _levels(golds)), default=0.0)


def f1(answer: str, golds: Sequence[str]) -> float:
    """F1 of the words in common with the gold answer (A,) that has most, in [0, 1]; of none, 0.

    Words are those between spaces; in scripts without spaces between words, characters.
    """
    found = (_f1(_tokens(level(answer)), _tokens(level(gold))) for level, gold in _levels(golds))
    return max(found, default=0.0)


def contains(answer: str, golds: Sequence[str]) -> bool:
    """True where the words of a gold answer (A,) are in the answer in a row; an exact match always does."""
    return any(
        _in_a_row(_tokens(level(answer)), _tokens(level(gold))) or _holds(answer, gold)
        for level, gold in _levels(golds)
    )


def words(text: str) -> tuple[str, ...]:
    """The words that ``passage_holds`` compares (W,), articles included; lower case, compatibility forms as one.

    >>> words("The $308 (COVID-19)"), words("东京")
    (('the', '308', 'covid', '19'), ('东', '京'))
    """
    return _words(text)


def is_article(word: str) -> bool:
    """True of a, an and the: they decide nothing, unless an answer has no other word."""
    return _ARTICLES.fullmatch(word) is not None


def passage_holds(text: str, golds: Sequence[str]) -> bool:
    """True where a gold answer (A,) occurs in a passage: the same words in a row, whatever is between them.

    Punctuation marks and symbols separate words: "308" is in "$308", and "COVID-19" in "COVID-19-related".
    """
    return any(_holds(text, gold) for gold in golds)


def holding_test(golds: Sequence[str]) -> Callable[[str], bool]:
    """``passage_holds`` of gold answers (A,), as a test for many texts.

    What holds an answer has the letters of its longest word in a row. Most texts do not, and that is seen many
    times faster than whether its words are in a row.
    """
    needed = [_letters_of(gold) for gold in golds]

    def holds(text: str) -> bool:
        letters = text.lower() if text.isascii() else _visible(_lower(text))
        return any(word in letters and _holds(text, gold) for word, gold in zip(needed, golds, strict=True))

    return holds


def _letters_of(gold: str) -> str:
    """The longest letters in a row of a gold answer, however a text writes its numbers; "000" of 1,000."""
    parts = [part for word in _bare(gold) or _words(gold) for part in _LETTERS.findall(word)]
    longest = max(reversed(parts), key=len, default="")
    return longest[-3:] if longest.isdecimal() else longest


def _levels(golds: Sequence[str]) -> list[tuple[Callable[[str], str], str]]:
    return [(_level(gold), gold) for gold in golds]


def _level(gold: str) -> Callable[[str], str]:
    """The strongest normalisation that leaves something of a gold answer."""
    return next((level for level in (_without_articles, _without_punctuation) if level(gold)), _folded)


def _without_articles(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", _without_punctuation(text)).split())


def _without_punctuation(text: str) -> str:
    return _unmarked(" ".join("".join(c for c in _marked(_lower(text)) if not _is_punctuation(c)).split()))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _marked(text: str) -> str:
    """The text with the signs that change what a number or a name means as private characters."""
    if not _SIGNS.search(text):
        return text
    text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    text = _POINT.sub(_MARKS["."], _BARE_POINT.sub(f"0{_MARKS['.']}", text))
    text = _MINUS.sub(lambda found: f"{found[1]}{_MARKS['-']}", text)
    return _NAME_SIGNS.sub(lambda found: "".join(_MARKS[sign] for sign in found[0]), text)


def _unmarked(text: str) -> str:
    return text.translate(_SHOWN)


def _lower(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


@lru_cache(4096)
def _is_punctuation(character: str) -> bool:
    # SQuAD's set has ASCII symbols (+ < $) as well; formatting (a soft hyphen) is invisible.
    return character in string.punctuation or unicodedata.category(character)[0] == "P" or _is_invisible(character)


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf"


def _tokens(text: str) -> list[str]:
    return _UNSPACED.sub(r" \1 ", text).split()


def _f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    common = (Counter(answer) & Counter(gold)).total()
    return 2 * common / (len(answer) + len(gold)) if common else 0.0


def _holds(text: str, gold: str) -> bool:
    if bare := _bare(gold):
        return _in_a_row(_bare(text), bare)
    if wanted := _words(gold):
        return _in_a_row(_words(text), wanted)
    return bool(gold.strip()) and _folded(gold) in _folded(text)


def _bare(text: str) -> list[str]:
    """The words without articles."""
    return [word for word in _words(text) if not _ARTICLES.fullmatch(word)]


@lru_cache(1024)
def _words(text: str) -> tuple[str, ...]:
    """Letters and digits with their marks; all else separates."""
    return tuple(_tokens(_unmarked("".join(map(_word_part, _marked(_lower(text)))))))


@lru_cache(4096)
def _word_part(character: str) -> str:
    if _is_invisible(character):
        return ""
    return character if unicodedata.category(character)[0] in "LMN" or character in _SHOWN_KEYS else " "


def _visible(text: str) -> str:
    invisible = _invisible_characters()
    return text if invisible.isdisjoint(text) else "".join(c for c in text if c not in invisible)


@cache
def _invisible_characters() -> frozenset[str]:
    return frozenset(filter(_is_invisible, map(chr, range(sys.maxunicode + 1))))


def _in_a_row(words: Sequence[str], wanted: Sequence[str]) -> bool:
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(words)} "
