"""Rows of a PDF page as cells: leaders, currency signs and closing brackets put where they belong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from mixrag.corpus.parsers.pdf.glyphs import Fragment, Word

_MARKS = r"(?:\s?[⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾,]+|\^\(?\w{1,2}\)?|\s?\((?:\d|[a-z])\)|[*†‡§]+)*"
_UNIT = r"\s?(?:%|x|bps|bp|pts?|pp|ppt|m|bn|k|mn|million|billion|¢|pence|p)?"
_SIGN = r"[-–—−+(<~]?\s?(?:US|C|A|HK|R|NT)?[$€£¥₹₩]?\s?[-–—−(]?\s?"
_VALUE = re.compile(
    rf"{_SIGN}(?:\d(?:[\d.,’'\u2009]*\d)?|\.\d+)(?: \d{{3}})*{_UNIT}\s?[)%]*{_UNIT}{_MARKS}", re.IGNORECASE
)
_EMPTY = re.compile(rf"[-–—−]+\s?[%)]?{_MARKS}|[$€£]\s?[-–—−]+|n/?a|n/?m|n\.m\.|n\.a\.|nil|\*+", re.IGNORECASE)
_YEAR = r"(?:(?:19|20)\d\d(?:\s?[-–/]\s?\d{2,4})?(?:[AE]|[ ]?E)?)"
_MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*\.?"
_PERIOD = re.compile(
    rf"(?:FY|fiscal(?: year)?|year|[HQ][1-4]|[1-4][HQ])?\s?['’]?{_YEAR}\W*{_MARKS}"
    rf"|(?:FY|[HQ][1-4]|[1-4][HQ])\s?['’]?(?:\d\d|{_YEAR})?{_MARKS}"
    rf"|{_MONTH}\s?\d{{1,2}},?(?:\s?{_YEAR})?,?{_MARKS}|\d{{1,2}}\.?\s{_MONTH}(?:\s{_YEAR})?{_MARKS}"
    rf"|{_MONTH}\s?{_YEAR}{_MARKS}|\d{{1,2}}[./]\d{{1,2}}[./](?:\d\d)?\d\d"
    rf"|{_YEAR}\s(?:\(?(?:US)?[$€£¥]\s?[a-z’'0]*\)?|%|restated|actual|budget|\(.{{1,20}}\)){_MARKS}",
    re.IGNORECASE,
)
_LEADER = re.compile(r"^(.*?)(?:[.·…_]{4,}|…{2,})(.*)$")
_LOOSE = re.compile(r"(?<=[\d–—-]) (?=[)%]+$)")
"""The space between a number and the bracket that closes it."""
_CURRENCY = frozenset("$€£¥₹") | {"US$", "C$", "A$", "HK$", "($", "(€", "(£", "(", "-$"}
_CLOSING = re.compile(r"[)%]+|%\)?|\)%|x|bps|pts?|pp")


@dataclass(slots=True)
class Cell:
    """Text with the place that decides its column: that of its number without signs."""

    x0: float
    x1: float
    text: str

    @property
    def is_value(self) -> bool:
        """A number, or a sign that stands for one."""
        return bool(_VALUE.fullmatch(self.text) or _EMPTY.fullmatch(self.text))

    @property
    def is_number(self) -> bool:
        """A number that is no year or date."""
        return bool(_VALUE.fullmatch(self.text)) and not self.is_period

    @property
    def is_period(self) -> bool:
        """A year, a quarter, a date: what heads a column."""
        return bool(_PERIOD.fullmatch(self.text))


@dataclass(slots=True)
class Row:
    """One line of a region."""

    cells: list[Cell]
    y: float
    size: float
    bold: bool
    text: str
    """The line as it stands."""

    @property
    def x0(self) -> float:
        """Where it begins."""
        return self.cells[0].x0

    @property
    def x1(self) -> float:
        """Where it ends."""
        return self.cells[-1].x1


def row_of(fragments: list[Fragment]) -> Row | None:
    """The row of fragments on one line; None where nothing but leaders is there."""
    cells: list[Cell] = []
    for fragment in fragments:
        cells += _cells(fragment)
    cells = _glued(cells, fragments[0].size)
    if not cells:
        return None
    size = max(fragments, key=lambda f: f.x1 - f.x0).size
    text = " ".join(cell.text for cell in cells)
    return Row(cells, fragments[0].y, size, all(f.bold for f in fragments), text)


def _cells(fragment: Fragment) -> list[Cell]:
    groups: list[list[Word]] = [[]]
    for word in _without_leaders(fragment.words):
        if word is None:
            groups.append([])
        elif word[2] in _CURRENCY and groups[-1]:
            groups.append([word])
        else:
            groups[-1].append(word)
    return [cell for group in groups if group for cell in _split_numbers(group, fragment.size)]


def _without_leaders(words: list[Word]) -> list[Word | None]:
    """The words, with None in the place of a row of dots."""
    result: list[Word | None] = []
    dots = 0
    for x0, x1, text in words:
        if text in (".", "·", "_", ". ."):
            dots += 1
            result.append((x0, x1, text))
            continue
        if dots >= 3:
            result[-dots:] = [None]
        dots = 0
        if match := _LEADER.match(text):
            share = (x1 - x0) / len(text)
            before, after = match[1], match[2]
            result += [(x0, x0 + share * len(before), before)] if before else []
            result.append(None)
            result += [(x1 - share * len(after), x1, after)] if after else []
        else:
            result.append((x0, x1, text))
    if dots >= 3:
        result[-dots:] = [None]
    return result


def _split_numbers(words: list[Word], size: float) -> list[Cell]:
    """One cell, or one for each number where there is nothing but numbers with more than a space between them."""
    whole = Cell(words[0][0], words[-1][1], _LOOSE.sub("", " ".join(word[2] for word in words)))
    if len(words) < 2 or whole.is_value or whole.is_period:
        return [whole]
    singles = [Cell(*word) for word in words]
    gaps = [b.x0 - a.x1 for a, b in pairwise(singles)]
    if all(c.is_value for c in singles) and min(gaps) > 0.4 * size:
        return singles
    return [whole]


def _glued(cells: list[Cell], size: float) -> list[Cell]:
    result: list[Cell] = []
    for cell in cells:
        last = result[-1] if result else None
        if last is not None and last.text in _CURRENCY and (cell.is_value or cell.text[:1].isdigit()):
            result[-1] = Cell(cell.x0, cell.x1, last.text + cell.text)
        elif (
            last is not None
            and _CLOSING.fullmatch(cell.text)
            and last.text[-1:].isalnum() | (last.text[-1:] in "—–-)")
            and any(c.isdigit() or c in "—–-" for c in last.text)
            and cell.x0 - last.x1 < 1.5 * size
        ):
            result[-1] = Cell(last.x0, last.x1, last.text + cell.text)
        else:
            result.append(cell)
    return result
