"""Rows of a CSV or TSV file: the delimiter that makes them equally long, and quotes that were never closed."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field

DELIMITERS = ",;\t|"
_NO_DELIMITER = "\x1f"
_SEP_LINE = re.compile(r'\A"?sep=(.)"?[ \t]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
_SAMPLE_ROWS = 500
_SAMPLE_CHARACTERS = 500_000


@dataclass(slots=True)
class Rows:
    """The rows of a file that are not blank."""

    delimiter: str
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    """First line of each, from 1, and its values."""
    unclosed: list[int] = field(default_factory=list)
    """Lines with a quote that is never closed, or only in the middle of a value: they are read without quotes."""


def read_rows(text: str) -> Rows:
    """All rows, by the delimiter that a first line such as "sep=;" names, else by that which fits best.

    Line ends may be CR, LF or both.
    """
    first = 1
    named = _SEP_LINE.match(text)
    if named:
        text, first = text[named.end() :], 2
    found = Rows(named[1] if named else find_delimiter(text))
    spaced = re.search(re.escape(found.delimiter) + ' +"', text[:_SAMPLE_CHARACTERS]) is not None
    with _long_fields(len(text)):
        lines, start = _lines(text), 0
        while start < len(lines):
            start = _read_until_fault(lines, start, first, found, spaced)
    return found


def find_delimiter(text: str) -> str:
    r"""The delimiter outside quotes that gives most rows as many values as the header, at least two.

    A control character where none does: the file has one column.

    >>> find_delimiter("Ort;Betrag, brutto\nBergen;12,50\n")
    ';'
    """
    lines = _lines(text[:_SAMPLE_CHARACTERS])
    with _long_fields(_SAMPLE_CHARACTERS):
        scores = {delimiter: _evenness(lines, delimiter) for delimiter in DELIMITERS}
    best = max(DELIMITERS, key=lambda each: scores[each])
    return best if scores[best][0] > 0 else _NO_DELIMITER


def _evenness(lines: list[str], delimiter: str) -> tuple[float, int]:
    """Share of the rows that have as many values as the first one, and how many these are; 0 for one column."""
    lengths = []
    for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True):
        if any(value.strip() for value in row):
            lengths.append(len(row))
        if len(lengths) == _SAMPLE_ROWS:
            break
    if not lengths:
        return 0.0, 0
    counted = Counter(lengths)
    if lengths[0] == 1:  # a title above the header
        length, count = counted.most_common(1)[0]
        return (count / len(lengths), length) if length > 2 and count >= max(4, len(lengths) - 3) else (0.0, 0)
    return counted[lengths[0]] / len(lengths), lengths[0]


def _lines(text: str) -> list[str]:
    return io.StringIO(text, newline="").readlines()


def _read_until_fault(lines: list[str], start: int, first: int, found: Rows, spaced: bool) -> int:
    """Add rows from a line on, up to a quote that is not closed as it must; the line to go on with.

    ``spaced``: spaces stand before quotes.
    """
    rest = (lines[number] for number in range(start, len(lines)))
    reader = csv.reader(rest, delimiter=found.delimiter, skipinitialspace=spaced, strict=True)
    before = start
    try:
        for row in reader:
            _add(found, before + first, row)
            before = start + reader.line_num
    except csv.Error:
        line = lines[before]
        if start + reader.line_num == before + 1 and line.count('"') % 2 == 0:  # text after a closed quote
            again = csv.reader([line], delimiter=found.delimiter, skipinitialspace=spaced)
        else:
            found.unclosed.append(before + first)
            again = csv.reader([line], delimiter=found.delimiter, quoting=csv.QUOTE_NONE)
        _add(found, before + first, next(again, []))
        return before + 1
    return len(lines)


def _add(found: Rows, line: int, row: list[str]) -> None:
    if any(value.strip() for value in row):
        found.rows.append((line, row))


class _long_fields:
    """Lift the csv module's limit on the length of a value, which is global to the process."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __enter__(self) -> None:
        self.before = csv.field_size_limit(max(self.length, csv.field_size_limit()))

    def __exit__(self, *_: object) -> None:
        csv.field_size_limit(self.before)
