"""Tables as lines of text, one a row, in which every number stands with the header of its column."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mixrag.corpus.parsers.cleaning import clean_line

_NUMBER = re.compile(r"[-+(]?\s*[$€£¥]?\s*[-+(]?\s*\d[\d.,\s]*\)?\s*%?")
_YEAR = re.compile(r"(?:19|20)\d\d(?:\s*[-/]\s*\d{2,4})?")


def table_lines(
    cells: Sequence[Sequence[str]], header_rows: int | None = None, caption: str = ""
) -> tuple[list[str], str]:
    """The lines of a table, the caption first, and what must stand in front of a passage of later rows.

    A row is "its first cell | header: cell | header: cell"; empty cells are left out. A table without headers has
    its cells alone.

    >>> table_lines([["", "2023", "2022"], ["Ferry", "12", "11"], ["Pilot", "", "40"]])
    (['Ferry | 2023: 12 | 2022: 11', 'Pilot | 2022: 40'], '')
    """
    rows = [[clean_line(cell) for cell in row] for row in cells]
    rows = [row for row in rows if any(row)]
    if not rows:
        return ([caption] if caption else []), ""
    width = max(map(len, rows))
    rows = [row + [""] * (width - len(row)) for row in rows]
    count = count_header_rows(rows) if header_rows is None else min(header_rows, len(rows))
    headers = _headers(rows[:count], width)
    lines = [_line(row, headers) for row in rows[count:]]
    if count == len(rows):  # nothing but headers
        lines = [" | ".join(filter(None, row)) for row in rows]
    return ([caption] if caption else []) + lines, caption


def count_header_rows(rows: Sequence[Sequence[str]]) -> int:
    """How many rows at the top name the columns: those without a first cell, or the only one without numbers."""
    count = 0
    while count < len(rows) - 1 and not rows[count][0]:
        count += 1
    if count == 0 and len(rows) > 1 and not _has_values(rows[0]) and any(map(_has_values, rows[1:])):
        count = 1
    return count


def _has_values(row: Sequence[str]) -> bool:
    return any(_NUMBER.fullmatch(cell) and not _YEAR.fullmatch(cell) for cell in row[1:] if cell)


def _headers(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The header of each column: what stands above it, from the top down, each text once.

    A row with one header names all columns; in a row with several, a blank continues the one on its left.
    """
    columns: list[list[str]] = [[] for _ in range(width)]
    for row in rows:
        given = [cell for cell in row[1:] if cell]
        spread = given[0] if len(given) == 1 and len(rows) > 1 else ""
        for place in range(1, width):
            spread = row[place] or spread
            if spread and spread not in columns[place]:
                columns[place].append(spread)
        if row[0]:
            columns[0].append(row[0])
    return [" ".join(parts) for parts in columns]


def _line(row: Sequence[str], headers: Sequence[str]) -> str:
    parts = [row[0]] if row[0] else []
    parts += [f"{head}: {cell}" if head else cell for cell, head in zip(row[1:], headers[1:], strict=True) if cell]
    return " | ".join(parts)
