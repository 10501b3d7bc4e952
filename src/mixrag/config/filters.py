"""The grammar of filters, one for command line, JSON and Python: what a passage's document must say.

A filter is a mapping of keys to conditions, all of which must hold. A condition is a text:

    2019                equal
    >=2020, <2024       compared, as numbers or ISO dates
    >=2020 <2024        both
    2019..2021          from, to, both included; one end may be missing
    ["a", "b..c"]       any of these: a JSON list
    =2019..2021         equal to the text after the first "="

Python values mean the text that JSON writes for them; a list is any of its members, a tuple of two a range.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixrag.config.values import shown
from mixrag.errors import SettingError
from mixrag.utils.text import is_unicode

TEXTUAL = ("document", "file", "title")
"""Keys whose values are only compared as texts: a title may contain two dots."""
_REMEDY = "see the how-to on filters in the documentation"
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?)?")
_YEAR = re.compile(r"\d{4}")
_COMPARISON = re.compile(r"(>=|<=|>|<)\s*(\S+(?: \d\d:\d\d\S*)?)")
_COMPARISONS = re.compile(rf"\s*{_COMPARISON.pattern}(\s+{_COMPARISON.pattern})?\s*")
_OPTION = re.compile(r"([^=<>]+)(>=|<=|=|>|<)(.*)", re.DOTALL)
_LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Equal:
    """The value is this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range."""

    value: int | float | str
    """A number, or an ISO date as text, with "T" before the time."""
    is_open: bool = False
    """The end itself is not in the range."""


@dataclass(frozen=True, slots=True)
class Range:
    """The value is between two numbers or two dates."""

    low: Bound | None
    high: Bound | None

    @property
    def dates(self) -> tuple[Bound | None, Bound | None] | None:
        """The ends as dates or years; None where they are numbers that can be no year."""
        ends = tuple(None if each is None else str(each.value) for each in (self.low, self.high))
        if not all(end is None or _YEAR.fullmatch(end) or _DATE.fullmatch(end.replace("T", " ")) for end in ends):
            return None
        low, high = self.low, self.high
        return low and Bound(str(low.value), low.is_open), high and Bound(str(high.value), high.is_open)

    @property
    def numbers(self) -> tuple[Bound | None, Bound | None] | None:
        """The ends as numbers; None where one is a date."""
        plain = all(each is None or not isinstance(each.value, str) for each in (self.low, self.high))
        return (self.low, self.high) if plain else None


Condition = Equal | Range


def conditions(key: str, text: str) -> tuple[Condition, ...]:
    """What the text of a filter means: any of these.

    >>> conditions("year", "2019..2021")
    (Range(low=Bound(value=2019, is_open=False), high=Bound(value=2021, is_open=False)),)

    Raises:
        SettingError: a comparison with something else than a number or a date, or a range that is empty.
    """
    members = _members(text)
    if members is not None:
        return (Equal(text), *(condition for each in members for condition in _single(key, each)))
    return _single(key, text)


def filter_text(key: str, value: Any) -> str:
    """The text of a condition that is given as text or in Python, checked.

    >>> filter_text("year", (2019, None)), filter_text("year", [2019, 2021]), filter_text("open", True)
    ('2019..', '["2019", "2021"]', 'true')

    Raises:
        SettingError: no condition.
    """
    text = _text(key, value)
    if not is_unicode(key + text):
        raise _refused(key, "text in UTF-8", "other bytes")
    conditions(key, text)
    return text


def filter_texts(given: Any) -> dict[str, str]:
    """A filter with every condition as checked text.

    Raises:
        SettingError: no mapping of text to conditions.
    """
    if not isinstance(given, Mapping):
        raise SettingError(
            "where to be a mapping of keys to conditions", shown(given), f"give where a dict; {_REMEDY}"
        )
    for key in given:
        if not isinstance(key, str) or not key:
            raise SettingError("text as keys of where", shown(key), _REMEDY)
    return {key: filter_text(key, value) for key, value in given.items()}


def filter_of_options(texts: Sequence[str]) -> dict[str, str]:
    """A filter from texts KEY=VALUE, KEY>=VALUE and so on: equal values of one key are alternatives, and
    comparisons of one key hold together.

    Raises:
        SettingError: another form, or a key with both.
    """
    given: dict[str, list[tuple[str, str]]] = {}
    for text in texts:
        found = _OPTION.fullmatch(text)
        if found is None:
            raise SettingError("--where to be KEY=VALUE or KEY>=VALUE", shown(text), _REMEDY)
        given.setdefault(found[1] if found[2] == "=" else found[1].strip(), []).append((found[2], found[3]))
    return {key: filter_text(key, _joined(key, parts)) for key, parts in given.items()}


def _joined(key: str, parts: list[tuple[str, str]]) -> str:
    compared = [f"{sign}{value.strip()}" for sign, value in parts if sign != "="]
    if compared and (len(compared) < len(parts) or key in TEXTUAL):
        found = ", ".join(f"{key}{sign}{value}" for sign, value in parts)
        expected = f"--where {key} to be compared with = alone" if key in TEXTUAL else f"one kind of --where {key}"
        raise SettingError(expected, shown(found), _REMEDY)
    if compared:
        return " ".join(compared)
    values = [value for _, value in parts]
    if len(values) == 1:
        return values[0]
    return _listed([member for value in values for member in (_members(value) or [value])])


def _text(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, set, frozenset)):
        members = [_text(key, each) for each in value if not isinstance(each, (list, set, frozenset))]
        if not members or len(members) < len(value):
            raise _refused(key, "a list of at least one value, none of them a list", value)
        return _listed(members if isinstance(value, list) else sorted(members))
    if isinstance(value, tuple):
        return _range_text(key, value)
    return _scalar(key, value)


def _range_text(key: str, ends: tuple[Any, ...]) -> str:
    if len(ends) != 2 or ends == (None, None) or any(isinstance(end, (tuple, list, bool)) for end in ends):
        raise _refused(key, "a tuple of two as range, or a list for any of its members", ends)
    low, high = ("" if end is None else end if isinstance(end, str) else _scalar(key, end) for end in ends)
    if key in TEXTUAL or any(end and _operand(end) is None for end in (low, high)):
        raise _refused(key, "a range of numbers or ISO dates, or a list for any of its members", ends)
    return f"{low}..{high}"


def _scalar(key: str, value: Any) -> str:
    plain = value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
    if isinstance(plain, (datetime.date, datetime.datetime)):
        return plain.isoformat()
    if isinstance(plain, str):
        return plain
    if plain is None or isinstance(plain, (int, float)):
        if isinstance(plain, float) and not math.isfinite(plain):
            raise _refused(key, "a finite number", value)
        return json.dumps(plain)
    raise _refused(key, "text, a number, true, false, a date, a list of these, or a range", value)


def _listed(members: Sequence[str]) -> str:
    return json.dumps(list(dict.fromkeys(members)), ensure_ascii=False)


def _members(text: str) -> list[str] | None:
    """The members of a JSON list of scalars; None for other text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not found or any(isinstance(each, (list, dict)) for each in found):
        return None
    return [each if isinstance(each, str) else json.dumps(each) for each in found]


def _single(key: str, text: str) -> tuple[Condition, ...]:
    if key in TEXTUAL:
        return (Equal(text),)
    if text.startswith("="):
        return (Equal(text[1:]),)
    if text[:1] in ("<", ">"):
        return (_compared(key, text),)
    low, dots, high = text.partition("..")
    ends = [_operand(end) if end else None for end in (low.strip(), high.strip())]
    if not dots or not (low or high) or any(end and _operand(end.strip()) is None for end in (low, high)):
        return (Equal(text),)
    return (_range(key, text, *(None if end is None else Bound(end) for end in ends)),)


def _compared(key: str, text: str) -> Range:
    found = _COMPARISONS.fullmatch(text)
    parts = _COMPARISON.findall(text) if found else []
    low = high = None
    for sign, operand in parts:
        value = _operand(operand)
        if value is None:
            raise _refused(key, f"{sign} with a number or an ISO date after it", text)
        bound = Bound(value, is_open=len(sign) == 1)
        low, high = (bound, high) if sign[0] == ">" else (low, bound)
    if len(parts) != (low is not None) + (high is not None) or not parts:
        raise _refused(key, "a comparison such as >=2020 or >=2020 <2024", text)
    return _range(key, text, low, high)


def _range(key: str, text: str, low: Bound | None, high: Bound | None) -> Range:
    made = Range(low, high)
    if made.numbers is None and made.dates is None:
        raise _refused(key, "a range of two numbers or two ISO dates", text)
    ends = made.numbers or made.dates
    if low and high and ends:
        first, last = (end.value for end in ends if end is not None)
        if isinstance(first, str) and isinstance(last, str):
            size = min(len(first), len(last))
            first, last = first[:size], last[:size]
        if first > last:  # type: ignore[operator]
            raise _refused(key, "a range that goes upwards", text)
    return made


def _operand(text: str) -> int | float | str | None:
    """A number, a date as text, or None for anything else."""
    if _NUMBER.fullmatch(text):
        number = json.loads(text) if len(text) < 400 else math.inf
        exact = isinstance(number, int) and abs(number) <= _LARGEST_INTEGER
        return number if exact else float(number) if math.isfinite(number) else None
    if not _DATE.fullmatch(text.replace("T", " ")):
        return None
    try:
        datetime.date.fromisoformat(text[:10] if len(text) >= 10 else f"{text}-01")
    except ValueError:
        return None
    return text.replace(" ", "T")


def _refused(key: str, expected: str, found: Any) -> SettingError:
    return SettingError(f"where {key!r} to be {expected}", shown(found), _REMEDY)


def spellings(text: str) -> list[str]:
    """A text as it is, composed (NFC) and decomposed (NFD): the spellings that systems write for one name."""
    return list(dict.fromkeys((text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))))
