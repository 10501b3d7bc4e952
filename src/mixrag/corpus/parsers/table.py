"""Tables as lines of text, one a row, in which every value stands with the header of its column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from mixrag.corpus.parsers.cleaning import clean_line

Cells = Sequence[Sequence[str | None]]
"""Rows of cells; None continues the cell on its left."""

_CURRENCY = r"(?:[$€£¥₹₽₩¢]|(?:US|C|A|HK|S|NT|R)\$|USD|EUR|GBP|JPY|CNY|RMB|CHF|SEK|NOK|DKK|CAD|AUD|INR|Rs\.?)"
_UNIT = rf"(?:{_CURRENCY}\s*)?[‘’']?(?:0{{3}}s?|m|mm|mn|bn|k|million|billion|thousand)s?|%|{_CURRENCY}"
_NOTE = r"(?:\s*(?:\(\w{1,2}\)|\[\w{1,3}\]|[*†‡§]+))*"
_VALUE = re.compile(
    rf"[-–—―+(~<>≈±]*\s*{_CURRENCY}?\s*[-–—―+(]*\s*"
    rf"(?:\d[\d.,' \u2019]*|[-–—―]|n/?[am]\.?)\s*\)?\s*(?:%|bps?|pp|x|{_UNIT})?\s*\)?{_NOTE}",
    re.IGNORECASE,
)
_YEAR = re.compile(
    rf"(?:FY|CY|Q[1-4]|H[12])?\s*(?:19|20)\d\d(?:\s*[-/–]\s*\d{{2,4}})?[AEF]?"
    rf"(?:\s*{_CURRENCY}\s*[‘’']?(?:0{{3}}s?|m|mn|bn|k|million|billion|thousand)?)?{_NOTE}",
    re.IGNORECASE,
)
_MONTH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_PERIOD = re.compile(
    rf"(?:\W*(?:as (?:of|at)|at|for|the|and|in|of|on|years?|quarters?|months?|weeks?|days?|periods?|fiscal"
    rf"|financial|calendar|ended|ending|end|beginning|three|six|nine|twelve|(?:{_MONTH})[a-z]*|q[1-4]|h[12]|fy|\d{{1,4}}"
    rf"|restated|(?:un)?audited)\b)+\W*",
    re.IGNORECASE,
)
_UNITS = re.compile(
    rf"\(?\s*(?:(?:all |amounts? |figures |dollars |expressed )*(?:are )?in\b.{{1,60}}|{_CURRENCY} ?in .{{1,60}}"
    rf"|{_CURRENCY}?\s*[‘’']?0{{3}}s?|{_CURRENCY}\s*(?:m|mm|mn|bn|k)?|%.{{0,20}}|{_CURRENCY}\W{{0,2}}(?:million|billion|thousand)s?)\s*\)?",
    re.IGNORECASE,
)
_OPENING = re.compile(rf"{_CURRENCY}|\(|{_CURRENCY}\s*\(")
_CLOSING = re.compile(r"[)%]|\)\s*%|%\s*\)|bps?|pp")
_LONGEST_HEADER = 120
_LONGEST_FIRST = 40
_MOST_HEADER_ROWS = 8


def table_lines(cells: Cells, header_rows: int | None = None, caption: str = "") -> tuple[list[str], str]:
    """The lines of a table, the caption first, and what must stand in front of a passage of later rows.

    A row is "header: first cell | header: cell | header: cell"; empty cells are left out. What is above the first
    column and is a unit or a period goes into the caption or into all headers. A table without headers has its
    cells alone.

    >>> table_lines([["(in millions)", "2023", "2022"], ["Ferry", "12", "11"], ["Pilot", "", "40"]])
    (['(in millions)', 'Ferry | 2023: 12 | 2022: 11', 'Pilot | 2022: 40'], '(in millions)')
    """
    rows = [[None if cell is None else clean_line(cell) for cell in row] for row in cells]
    rows = [row for row in rows if any(row)]
    if not rows:
        return ([caption] if caption else []), ""
    table = _without_empty_columns(_with_symbols_joined(rows))
    count = count_header_rows(table) if header_rows is None else min(header_rows, len(table))
    if count == len(table):  # nothing but headers
        return ([caption] if caption else []) + [_line(row, []) for row in table], caption
    return _lines(table, count, caption, guess=header_rows is None)


def count_header_rows(rows: Cells) -> int:
    """How many rows at the top name the columns, in a table that does not say it."""
    count, widest = 0, 0
    for number, row in enumerate(rows[:-1][:_MOST_HEADER_ROWS]):
        given = [cell for cell in row[1:] if cell]
        if any(map(_is_value, given)):
            break
        if not given:  # a title of the table at its top, a title of the next rows below the headers
            if count:
                break
        elif not row[0] or not count or widest < 2 <= len(given) or _names_columns(row):
            count, widest = number + 1, max(widest, len(given))
        else:
            break
    below = (cell for row in rows[count:] for cell in row[1:] if cell)
    return count if count and (not rows[count - 1][0] or any(map(_is_value, below))) else 0


def _lines(rows: list[list[str | None]], count: int, caption: str, *, guess: bool) -> tuple[list[str], str]:
    headers, titles = _headers(rows[:count], len(rows[0]))
    above = " | ".join(filter(None, [caption, *titles]))
    limit = _longest_header(rows[count:], headers)
    lines = [above] if above else []
    if any(len(header) > limit for header in headers):
        lines += [_line(row, []) for row in rows[:count]]
    shown = [_shortened(header, limit) for header in headers]
    for row in rows[count:]:
        if guess and _is_header_inside(row):  # the years of the rows below
            shown = [shown[0], *(cell or "" for cell in _spread(row, several=True)[1:])]
            continue
        lines.append(_line(row, shown if any(row[1:]) or len(row) == 1 else []))
    return lines, above


def _headers(rows: list[list[str | None]], width: int) -> tuple[list[str], list[str]]:
    """The header of each column: what stands above it, from the top down, each text once; and titles of the table.

    A row with one period names all columns, one with another text the table; in a row with several, a blank
    continues the one on its left.
    """
    columns: list[list[str]] = [[] for _ in range(width)]
    titles: list[str] = []
    for row in rows:
        _place_first(row[0] or "", row, columns, titles, several=len(rows) > 1)
        given = [cell for cell in row[1:] if cell]
        if len(given) == 1 and len(rows) > 1 and None not in row and not _PERIOD.fullmatch(given[0]):
            _append(titles, given[0])  # such as (in millions)
            continue
        for place, cell in enumerate(_spread(row, several=len(rows) > 1)[1:], start=1):
            _append(columns[place], cell)
    return [" ".join(parts) for parts in columns], titles


def _place_first(
    text: str, row: Sequence[str | None], columns: list[list[str]], titles: list[str], *, several: bool
) -> None:
    """What is above the first column: a period of all columns, a title or unit of the table, or a header."""
    if _PERIOD.fullmatch(text) and len(columns) > 1:
        for column in columns[1:]:
            _append(column, text)
    elif _UNITS.fullmatch(text) or len(text) > _LONGEST_FIRST or (several and not any(row[1:])):
        _append(titles, text)
    else:
        _append(columns[0], text)


def _append(parts: list[str], text: str) -> None:
    text = text.rstrip(" :")
    if text and text not in parts:
        parts.append(text)


def _spread(row: list[str | None], *, several: bool) -> list[str]:
    """A row of headers with its blanks filled: ``several`` where other rows of headers are above or below."""
    given = [cell for cell in row[1:] if cell]
    if not given:
        return [row[0] or ""] + [""] * (len(row) - 1)
    if None in row:  # the document says how far a cell reaches
        return _reached(row)
    if several and (len(given) == 1 or (not row[1] and not _YEAR.fullmatch(given[0]))):
        return [row[0] or "", *_reached([cell or None for cell in row[:0:-1]], given[-1])[::-1]]  # centred
    return [row[0] or "", *_reached([cell or None for cell in row[1:]])]


def _reached(row: Sequence[str | None], before: str = "") -> list[str]:
    """The row, each None in the place of the cell on its left."""
    filled = []
    for cell in row:
        before = before if cell is None else cell
        filled.append(before)
    return filled


def _line(row: Sequence[str | None], headers: Sequence[str]) -> str:
    named = [*headers, *[""] * (len(row) - len(headers))]
    return " | ".join(f"{name}: {cell}" if name else cell for cell, name in zip(row, named, strict=True) if cell)


def _is_value(cell: str) -> bool:
    return bool(_VALUE.fullmatch(cell)) and not _YEAR.fullmatch(re.sub(r"(?<=\d) (?=\d\b)", "", cell))


def _names_columns(row: Sequence[str | None]) -> bool:
    """Whether a row without values names columns: it gives units or periods, and no text."""
    given = [cell for cell in row[1:] if cell]
    label = row[0] or ""
    by_label = bool(_UNITS.fullmatch(label) or _PERIOD.fullmatch(label))
    return by_label or all(_is_period(cell) or _UNITS.fullmatch(cell) for cell in given)


def _is_period(cell: str) -> bool:
    return bool(_YEAR.fullmatch(cell)) or (bool(_PERIOD.fullmatch(cell)) and any(map(str.isalpha, cell)))


def _is_header_inside(row: Sequence[str | None]) -> bool:
    given = [cell for cell in row[1:] if cell]
    return not row[0] and len(given) > 1 and all(map(_is_period, given))


def _longest_header(rows: list[list[str | None]], headers: list[str]) -> int:
    """How much of a header each row may repeat, so that the text stays in proportion to the table."""
    own = sum(len(cell) for row in rows for cell in row if cell)
    repeated = sum(min(len(header), _LONGEST_HEADER) for header in headers) * len(rows)
    return _LONGEST_HEADER if repeated <= 200_000 + 8 * own else 20


def _shortened(header: str, limit: int) -> str:
    return header if len(header) <= limit else header[:limit].rstrip() + "…"


def _with_symbols_joined(rows: list[list[str | None]]) -> list[list[str | None]]:
    """Rows of one length, a currency sign or a bracket in a cell of its own put to the number beside it."""
    width = max(map(len, rows))
    joined = []
    for given in rows:
        row = [*given, *[""] * (width - len(given))]
        places = [place for place in range(1, width) if row[place]]
        for place, after in pairwise(places):
            cell, other = row[place] or "", row[after] or ""
            if _OPENING.fullmatch(cell) and (other[:1].isdigit() or other[:1] in ("(", "—")):
                row[place], row[after] = "", cell + other
            elif _CLOSING.fullmatch(other) and cell[-1:].isdigit():
                row[place], row[after] = cell + other, ""
        joined.append(row)
    return joined


def _without_empty_columns(rows: list[list[str | None]]) -> list[list[str | None]]:
    """The rows without columns that are empty."""
    width = len(rows[0])
    used = [place for place in range(width) if any(row[place] for row in rows)]
    return rows if len(used) == width else [[row[place] for place in used] for row in rows]
