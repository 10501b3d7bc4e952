"""What a filter means, in Python, for every store: which documents, and which pages of them, it lets through.

A backend whose database cannot say this reads its documents and asks here; another one has a test that both agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixrag.config.filters import Bound, Condition, Equal, Range, spellings
from mixrag.corpus.passage import Scalar
from mixrag.corpus.store.sources import MEMORY, composed, fallback_title, name_test

LONGEST_NAME = 8192
"""Longer texts are no names of files."""
PageTest = Callable[[int | None], bool]
"""Whether a passage that starts on this page is let through."""
_WHOLE = re.compile(r"(-?\d+)(\.0+)?")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?[ \t\n\r]*")
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}.*)?)?", re.DOTALL)
_INTEGERS = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Described:
    """What filters ask of a document."""

    title: str
    """Its own; empty where it has none."""
    metadata: Mapping[str, Scalar]
    sources: Sequence[tuple[str, str]]
    """Path and record of each, as ``sources`` describes them."""


def scalar_text(value: Scalar) -> str:
    """A metadata value as the text that filters compare with."""
    return value if isinstance(value, str) else json.dumps(value)


def equal_texts(text: str) -> list[str]:
    """The texts that count as equal: composed or not, true and false in any case, whole numbers with and without
    zeros after the point.
    """
    if text.lower() in ("true", "false"):
        return [text, text.lower(), text.upper(), text.capitalize()]
    if whole := _WHOLE.fullmatch(text):
        return [text, *(f"{whole[1]}{zeros}" for zeros in ("", ".0", ".00"))]
    return spellings(text)


def page_of(text: str) -> int | None:
    """The page that a text is the number of; None for any other text."""
    whole = _WHOLE.fullmatch(text)
    return int(whole[1]) if whole and len(whole[1]) < 18 else None


def documents_meeting(
    filter_: Mapping[str, Sequence[Condition]], documents: Mapping[int, Described]
) -> dict[int, PageTest]:
    """The documents that can have passages which meet one of the conditions of every key, and which pages do.

    Args:
        filter_: keys and parsed conditions (``Store.rows_meeting``).
        documents: all of the store by row id: what the name of a file means depends on what others are there.
    """
    parts = [_meeting(key, found, documents) for key, found in filter_.items()]
    kept = {row: [part[row] for part in parts if row in part] for row in documents}
    return {row: _all_of(tests) for row, tests in kept.items() if len(tests) == len(parts)}


def _all_of(tests: Sequence[PageTest]) -> PageTest:
    return lambda page: all(test(page) for test in tests)


def _always(_: int | None) -> bool:
    return True


def _meeting(key: str, found: Sequence[Condition], documents: Mapping[int, Described]) -> dict[int, PageTest]:
    """One key: any of the conditions, for what is called by that name or for metadata of that name."""
    keys = set(spellings(key))
    texts = [each.text for each in found if isinstance(each, Equal)]
    meant: set[int] = set()
    if key in ("document", "file"):
        meant = {row for text in texts for row in _with_source(text, documents)}
    elif key == "title":
        meant = {row for text in texts for row, each in documents.items() if _is_titled(each, text)}
    whole = {
        row
        for row, each in documents.items()
        if row in meant
        or any(_value_meets(scalar_text(v), c) for k, v in each.metadata.items() if k in keys for c in found)
    }
    if key != "page":
        return dict.fromkeys(whole, _always)

    def on_page(page: int | None) -> bool:
        return page is not None and any(_page_meets(page, each) for each in found)

    return {row: _always if row in whole else on_page for row in documents}


def _value_meets(text: str, condition: Condition) -> bool:
    """A metadata value as text, or a member of the list that it is."""
    if isinstance(condition, Equal):
        wanted = equal_texts(condition.text)
        return text in wanted or any(member in wanted for member, _ in _members(text))
    return _in_range(text, condition) or any(
        plain and _in_range(member, condition) for member, plain in _members(text)
    )


def _members(text: str) -> list[tuple[str, bool]]:
    """The members of a JSON list as texts, and whether each is a number or a text."""
    if not text.startswith("["):
        return []
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return []
    return [
        (_member_text(each), isinstance(each, str | int | float) and not isinstance(each, bool)) for each in found
    ]


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _member_text(value: Any) -> str:
    """As SQLite writes it: numbers to 15 digits, with a point where they are not whole."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int) and value in _INTEGERS:
        return str(value)
    if isinstance(value, int | float):
        mantissa, exponent, power = f"{float(value):.15g}".partition("e")
        return f"{mantissa}{'' if '.' in mantissa else '.0'}{exponent}{power}"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _in_range(text: str, range_: Range) -> bool:
    """Whether a text is a number, or an ISO date, within the range."""
    if (numbers := range_.numbers) is not None and _NUMBER.fullmatch(text):
        return _between(_number(text), numbers)
    if (dates := range_.dates) is not None and _DATE.fullmatch(text):
        return _is_within_as_far_as_written(text.replace(" ", "T"), dates)
    return False


def _number(text: str) -> int | float:
    found: int | float = json.loads(text) if len(text) < 400 else float(text)
    return float(found) if isinstance(found, int) and found not in _INTEGERS else found


def _between(value: Any, ends: Sequence[Bound | None]) -> bool:
    low, high = ends
    above = low is None or value > low.value or (value == low.value and not low.is_open)
    return above and (high is None or value < high.value or (value == high.value and not high.is_open))


def _is_within_as_far_as_written(value: str, ends: Sequence[Bound | None]) -> bool:
    """Dates compared by as many characters as both have: 2020-05-01 is in 2020."""
    low, high = ends
    return _between_texts(value, low, above=True) and _between_texts(value, high, above=False)


def _between_texts(value: str, end: Bound | None, *, above: bool) -> bool:
    if end is None:
        return True
    date = str(end.value)
    own, other = value[: len(date)], date[: len(value)]
    return (not end.is_open and own == other) or (own > other if above else own < other)


def _page_meets(page: int, condition: Condition) -> bool:
    if isinstance(condition, Equal):
        return page == page_of(condition.text)
    return condition.numbers is not None and _between(page, condition.numbers)


def _is_titled(document: Described, title: str) -> bool:
    """By its own title, or by the one that is shown of its first source where it has none."""
    if document.title in spellings(title):
        return True
    return (
        not document.title
        and bool(document.sources)
        and composed(fallback_title(*min(document.sources))) == composed(title)
    )


def _with_source(name: str, documents: Mapping[int, Described]) -> set[int]:
    """The documents of the files, records and documents from memory that a name means."""
    every = [(row, path, record) for row, each in documents.items() for path, record in each.sources]
    files = {path for _, path, _ in every if path != MEMORY}
    whole = _files_named(name, files)
    records = {
        (path, record)
        for place in (match.start() for match in re.finditer("#", name))
        for path in _files_named(name[:place], files)
        for record in spellings(name[place + 1 :])
        if record
    }
    memory = _records_named(name, {record for _, path, record in every if path == MEMORY})
    return {
        row
        for row, path, record in every
        if path in whole or (path, record) in records or (path == MEMORY and record in memory)
    }


def _files_named(name: str, files: set[str]) -> set[str]:
    if not name or len(name) > LONGEST_NAME:
        return set()
    return {name} if name in files else _matching(files, name_test(name))


def _records_named(name: str, records: Iterable[str]) -> set[str]:
    known = set(records)
    exact = known & set(spellings(name))
    if exact or not set(name) & set("*?"):
        return exact
    return _matching(known, name_test(name, last_parts=False))


def _matching(names: Iterable[str], test: Callable[[str], bool]) -> set[str]:
    return {name for name in names if test(name)}
