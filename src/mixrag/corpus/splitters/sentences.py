"""Where sentences end, by the punctuation of many scripts, in linear time.

Full stops of abbreviations, initials and numbered items end none, nor does one that a small letter follows. Text
in Chinese, Japanese, Hindi and others needs no space after its own marks; Thai, Lao and Khmer have no marks, and
put a space between sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mixrag.corpus.splitters.protocol import Offsets

_CLOSING = "\"'”’»›)\\]}」』）】》〉"
_NO_SPACES = "\u0e00-\u0eff\u1780-\u17ff"  # Thai, Lao, Khmer
# Each alternative begins where it cannot have begun one character earlier, so that runs are read once.
_END = re.compile(
    rf"(?P<stop>(?<![.!?…])[.!?…]++[{_CLOSING}]*+)(?=\s)"
    rf"|(?<![。！？｡．])[。！？｡．]++[{_CLOSING}]*+"
    rf"|(?<![।॥؟۔።።។။։])[।॥؟۔።។။։]++[{_CLOSING}]*+"
    rf"|(?<=[{_NO_SPACES}])[ \t\u3000]+(?=[{_NO_SPACES}])"
    r"|\n[ \t]*\n"
)
_SPACES = " \t\u3000\u00a0\r"
_OWN_SPACE = frozenset("。！？｡．।॥؟۔።။։")
_WITHOUT_SPACES = re.compile(rf"[{_NO_SPACES}]")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘«]+\Z")
_SMALL = re.compile(r"\s+[(\[\"'“‘«]*[^\W\d_]")
_NUMBER = re.compile(r"\s+\d")
_NUMBERED = re.compile(r"\s*[(\[]?[0-9]{1,3}[.)]+\Z")
_SHORT = """
    mr mrs ms dr prof st jr sr rev hon gov sen rep gen col lt sgt capt messrs mme mlle vs etc al cf ca approx
    dept est inc ltd co corp bros cie jan feb mar apr jun jul aug sep sept oct nov dec bzw usw bspw ggf inkl
    vgl evtl tel incl resp min max eds гг ул тыс млн млрд руб др пр тел sra dra
"""
_ABBREVIATIONS = frozenset(_SHORT.split())
_COUNTED = "no nos nr fig figs eq eqs sec secs art arts vol vols ch pp abs ref стр рис ст см pág núm"
_NUMBERED_BY = frozenset(_COUNTED.split())
"""These end a sentence unless a number follows."""
_REACH = 40
_YEAR = 4
"""A number of so many digits with a full stop ends a sentence: a shorter one may go on ("3." of "3.5")."""


def sentence_ends(text: str) -> Iterator[int]:
    """Offsets after the last character of each sentence, ascending; the end of the text is not among them.

    >>> list(sentence_ends("Dr. Vane paid 3.50 crowns. Who asked? He did."))
    [26, 37]
    """
    last = 0
    for match in _END.finditer(text):
        if match["stop"] and not _ends(text, last, match):
            continue
        last = match.end()
        yield last


def ends_sentence(text: str) -> bool:
    """True where the text ends with the punctuation of a sentence, or with a colon."""
    bare = text[-_REACH:].rstrip().rstrip(_CLOSING.replace("\\", ""))
    return bare[-1:] in set(".!?…:。！？｡．।॥؟۔።។။։：")


def has_ended(text: str) -> bool:
    """True where a text that may go on ends with the end of a sentence, by what is there alone.

    As ``sentence_ends``, but for what only later characters can tell. A line break ends a sentence as well. A full
    stop after a number ends one where white space follows, or the number is a year; those after "No." and the like
    end none, since a number may follow.

    >>> [has_ended(text) for text in ("He paid.", "He paid 3.", "In 1920.", "It was Dr.", "Why?!", "He")]
    [True, False, True, False, True, False]
    """
    bare = text.rstrip(_SPACES)
    if not bare.strip():
        return False
    if bare[-1] == "\n" or (bare != text and _WITHOUT_SPACES.match(bare[-1])):
        return True
    core = bare.rstrip(_CLOSING.replace("\\", ""))
    if core[-1:] in _OWN_SPACE:
        return True
    before = core.rstrip(".!?…")
    if core[len(before) :] != ".":
        return core != before
    word = _LAST_WORD.search(before[-_REACH:])
    if word is None or not word[0].isdigit():
        counting = word is not None and core == bare and word[0].rstrip(".").lower() in _NUMBERED_BY
        return word is None or not (_is_short(word[0]) or counting)
    line = before.rpartition("\n")[2]
    return len(word[0]) >= _YEAR or (bare != text and line.strip() != word[0])


def sentences(text: str, start: int, end: int) -> Iterator[Offsets]:
    """Spans of the sentences of a stretch, without the whitespace around them."""
    part = text[start:end]
    before = 0
    for stop in (*sentence_ends(part), len(part)):
        if span := trimmed(part, before, stop):
            yield span[0] + start, span[1] + start
        before = stop


def trimmed(text: str, start: int, end: int) -> Offsets | None:
    """The span without the whitespace at its ends; None where it has nothing else."""
    part = text[start:end]
    bare = part.strip()
    if not bare:
        return None
    first = start + len(part) - len(part.lstrip())
    return first, first + len(bare)


def _ends(text: str, last: int, match: re.Match[str]) -> bool:
    """Whether marks with a space after them end the sentence that began at ``last``."""
    following = _SMALL.match(text, match.end(), match.end() + _REACH)
    if following and following[0][-1].islower():
        return False
    mark = match["stop"].rstrip(_CLOSING.replace("\\", ""))
    if mark != ".":
        return True
    stop = match.start()
    before = text[max(last, stop - _REACH) : stop]
    word = _LAST_WORD.search(before)
    if word is None:
        return True
    numbered = stop - last < _REACH and _NUMBERED.fullmatch(text, last, stop + 1) is not None
    counting = word[0].rstrip(".").lower() in _NUMBERED_BY and _NUMBER.match(text, match.end()) is not None
    return not (_is_short(word[0]) or numbered or counting)


def _is_short(word: str) -> bool:
    """Whether the word before a full stop is an abbreviation or an initial."""
    single = len(word) == 1 and word.isalpha()
    dotted = "." in word and not any(map(str.isdigit, word)) and len(word) < 8
    return single or dotted or word.rstrip(".").lower() in _ABBREVIATIONS
