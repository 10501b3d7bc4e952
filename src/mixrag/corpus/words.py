"""Words of a text, for lexical search: documents and questions go through the same function.

A word is what remains when spelling no longer matters. Text is brought to NFKC and folded in case; characters
that only format (soft hyphen, joiners) are dropped; diacritics are folded where they are no letters of their own;
numbers lose their separators; words lose their endings (Snowball's stemmer of the script). A word that is written
in several ways gives several words: ``ABC-123`` gives ``abc123``, ``abc`` and ``123``. Scripts without spaces give
overlapping pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import chain

import regex

from mixrag.corpus.numerals import NUMBER, SPACED, UNSPACED, joined_groups, readings
from mixrag.corpus.stems import stem

LONGEST = 64
"""Characters of a word; what is longer (encoded data, sequences) is cut."""

_REMEMBERED = 2**17
_RAISED = re.compile(r"(?<=[0-9])(?=[⁰¹²³⁴-⁹¼-¾⅐-⅞])")
"""Between a digit and an exponent or a fraction, which NFKC would make one number."""
_RUN = regex.compile(
    rf"(?P<number>{NUMBER})"
    rf"|(?P<unspaced>[{UNSPACED}][{UNSPACED}\p{{M}}]*)"
    r"|(?P<hangul>\p{Hangul}+)"
    rf"|(?P<initials>(?<!{SPACED})(?:\p{{L}}\.){{2,}})(?!\p{{L}})"
    rf"|(?P<word>{SPACED}+(?:['_./:\-+&@#]{SPACED}+)*(?:\+\+|\#)?)",
    regex.VERSION1,
)
_PLAIN = regex.compile(r"[a-z]+")
_PARTS = regex.compile(r"\p{Nd}+|(?:(?!\p{Nd})[\p{L}\p{N}\p{M}])+")
_MOST_PARTS = 6
"""An address or a path of more parts is no word as a whole."""
_PARTICLES = frozenset("은는이가을를의에도로와과만")
"""Korean particles of one syllable: after a noun of one syllable the noun is a word of its own."""


def words(text: str) -> list[str]:
    """Words of a text in their order, repeated as often as they occur.

    >>> words("The O'Brien funds' fee: 1,250 crowns (ABC-123)")
    ['the', 'obrien', 'brien', 'fund', 'fee', '1250', 'crown', 'abc123', 'abc', '123']
    >>> words("费用是")
    ['费', '费用', '用', '用是', '是']
    """
    return list(chain.from_iterable(map(_CHUNKS.__getitem__, joined_groups(normalised(text)).split())))


def asked_words(text: str) -> dict[str, float]:
    """The distinct words of a question with their weights, in its order.

    The whole of a compound counts ½. So do the parts of a code together: otherwise a question about H1N1 would ask
    four times for one thing.

    >>> asked_words("H1N1 fees")
    {'h1n1': 0.5, 'h': 0.16666666666666666, '1': 0.16666666666666666, 'n': 0.16666666666666666, 'fee': 1.0}
    >>> asked_words("e-mail")
    {'email': 0.5, 'e': 1.0, 'mail': 1.0}
    """
    found: dict[str, float] = {}
    for chunk in joined_groups(normalised(text)).split():
        for kind, group in _groups_of(chunk):
            weights = dict.fromkeys(group, 1.0)
            if 1 < len(group) <= _MOST_PARTS + 1 and kind in {"number", "word"}:
                whole, *parts = group
                is_code = any(character.isdigit() for character in whole)
                weights = dict.fromkeys(parts, 0.5 / len(parts) if is_code else 1.0)
                weights = {whole: 0.5} | weights
            for word, weight in weights.items():
                found[word] = max(weight, found.get(word, 0.0))
    return found


def normalised(text: str) -> str:
    """Text in NFKC, folded in case, without format characters, with ASCII digits, hyphens and apostrophes."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", _RAISED.sub(" ", text.translate(_CHARACTERS))).casefold()
    return unicodedata.normalize("NFKC", text).translate(_CHARACTERS)


class _Characters(dict[int, str]):
    """What becomes of single characters, found when one is first met: format characters go."""

    def __missing__(self, code: int) -> str:
        character, kind = chr(code), unicodedata.category(chr(code))
        if kind == "Cf" or code == 0x640 or 0xFE00 <= code < 0xFE10 or 0xE0100 <= code < 0xE01F0:
            self[code] = ""
        else:
            self[code] = str(unicodedata.digit(character)) if kind == "Nd" else character
        return self[code]


_CHARACTERS = _Characters(
    dict.fromkeys(map(ord, "‐‑‒–—−"), "-") | dict.fromkeys(map(ord, "’‘ʼ´"), "'") | {ord("٬"): ",", ord("٫"): "."}
)


def _words_of(chunk: str) -> tuple[str, ...]:
    """The words of characters without a space."""
    if _PLAIN.fullmatch(chunk):
        return (stem(chunk[:LONGEST]),)
    return tuple(word for _, group in _groups_of(chunk) for word in group)


def _groups_of(chunk: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The words of each run of characters in turn, with the kind of the run."""
    for run in _RUN.finditer(chunk):
        kind = run.lastgroup or ""
        yield kind, _READ[kind](run.group())


class _Chunks(dict[str, tuple[str, ...]]):
    """The words of chunks; a text has few different ones, so they are remembered."""

    def __missing__(self, chunk: str) -> tuple[str, ...]:
        found = _words_of(chunk)
        if len(chunk) <= LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[chunk] = found
        return found


_CHUNKS = _Chunks()


def _distinct(found: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word[:LONGEST] for word in found if word))


def _initials(run: str) -> tuple[str, ...]:
    return (_folded(run.replace(".", ""))[:LONGEST],)


def _compound(run: str) -> tuple[str, ...]:
    """A word, or the whole and the parts of one that has joiners, or letters beside digits."""
    found = []
    for end in ("++", "#"):  # C++ and C# are words beside C
        if run.endswith(end):
            found, run = [run], run.removesuffix(end)
    run = run.removesuffix("'s")
    parts = _PARTS.findall(run)
    if len(parts) == 1:
        return _distinct([*found, _one(parts[0])])
    whole = "".join(parts)
    if "'" in run:
        parts = [part for part in parts if len(part) > 1 or part.isdigit()]  # l'avion, don't
    if len(parts) <= _MOST_PARTS:
        found.append(_folded(whole) if regex.search(r"\d", whole) else _one(whole))
    return _distinct([*found, *map(_one, parts)])


def _one(part: str) -> str:
    return part if part.isdigit() else stem(_folded(part))


def _grams(run: str) -> tuple[str, ...]:
    """Overlapping pairs of characters, and Han characters by themselves, which often are words."""
    characters = regex.findall(r"\X", run)
    if len(characters) == 1:
        return tuple(characters)
    found = []
    for place, character in enumerate(characters):
        if regex.match(r"\p{Han}", character):
            found.append(character)
        if place + 1 < len(characters):
            found.append(character + characters[place + 1])
    return tuple(found)


def _hangul(run: str) -> tuple[str, ...]:
    """Overlapping pairs of syllables, which match through particles and endings."""
    if len(run) == 1:
        return (run,)
    alone = [run[0]] if len(run) == 2 and run[1] in _PARTICLES else []
    return tuple(alone + [run[place : place + 2] for place in range(len(run) - 1)])


_READ = {"number": readings, "unspaced": _grams, "hangul": _hangul, "initials": _initials, "word": _compound}
_LATIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "æ": "ae", "œ": "oe", "ı": "i", "ð": "d", "þ": "th", "ŧ": "t"}
)
_CYRILLIC = str.maketrans({"ё": "е", "\u0300": None, "\u0301": None})
_ARABIC = str.maketrans({"ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه"})


def _folded(word: str) -> str:
    """Without the marks that are no letters of the script; й, ї and all Indian vowel signs are letters.

    >>> [_folded(word) for word in ("señor", "θάλασσα", "ёлкой", "हिन्दी")]
    ['senor', 'θαλασσα', 'елкой', 'हिन्दी']
    """
    if word.isascii():
        return word
    if regex.search(r"\p{Cyrillic}", word):
        return word.translate(_CYRILLIC)
    if regex.search(r"[\p{Latin}\p{Greek}]", word):
        return unicodedata.normalize("NFC", _bare(word)).translate(_LATIN)
    if regex.search(r"[\p{Arabic}\p{Hebrew}]", word):
        return _bare(word).translate(_ARABIC)
    return word


def _bare(word: str) -> str:
    characters = unicodedata.normalize("NFD", word)
    return "".join(character for character in characters if unicodedata.category(character) != "Mn")
