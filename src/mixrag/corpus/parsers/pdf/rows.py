"""The rows of a table of a PDF as cells: labels of several lines joined, each value with its column's header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from mixrag.corpus.parsers.pdf.cells import Cell, Row
from mixrag.corpus.parsers.pdf.columns import Column, has_number, place

_TIGHT = 0.92
"""A smaller distance of two lines, in units of the usual one of two rows, is that of two lines of one row."""
_UNSURE = 0.3
_SECTION = re.compile(r":$|^[A-Z][A-Z ,&'’-]+$")


@dataclass(slots=True)
class _Line:
    row: Row
    label: list[str]
    values: dict[int, str]
    clear: bool
    """Whether its values fall into different columns."""


def label_columns(body: Sequence[Row], columns: list[Column]) -> list[Column]:
    """Columns of text left of the numbers, where most rows have several."""
    left = columns[0].x0
    sides = [[c for c in row.cells if c.x1 < left and not c.is_value] for row in body if has_number(row)]
    several = [side for side in sides if len(side) > 1]
    if len(several) < max(2, 0.5 * len(sides)):
        return []
    labels: list[Column] = []
    for cell in sorted((c for side in several for c in side), key=lambda c: c.x0):
        if labels and cell.x0 < labels[-1].x1:
            labels[-1].x1 = max(labels[-1].x1, cell.x1)
        else:
            labels.append(Column(cell.x0, cell.x1))
    return labels if len(labels) > 1 else []


def table_rows(rows: Sequence[Row], columns: list[Column], labels: list[Column]) -> list[list[str]] | None:
    """Cells of each row, the label first; None where the values of too many rows fall into one column.

    A single such row stays as it stands.
    """
    lines = [_line(row, columns, labels) for row in rows]
    if sum(not line.clear for line in lines) > _UNSURE * sum(map(has_number, rows)):
        return None
    result = []
    for line in _whole_labels(lines, columns[0].x0):
        if not line.clear:
            result.append([line.row.text])
            continue
        heads = [" ".join(column.headers) for column in columns]
        shown = [f"{heads[i]}: {text}" if heads[i] else text for i, text in sorted(line.values.items())]
        result.append([*line.label, *shown])
    return result


def _line(row: Row, columns: list[Column], labels: list[Column]) -> _Line:
    left = columns[0].x0
    values: dict[int, str] = {}
    texts: list[Cell] = []
    clear = True
    for n, cell in enumerate(row.cells):
        at = place(columns, cell)
        in_front = (cell.x0 + cell.x1) / 2 < left and not cell.is_value
        if in_front or (n == 0 and (cell.x1 < left or not cell.is_value)):
            texts.append(cell)
            continue
        beside = columns[at].overlap(cell.x0, cell.x1) <= 0
        clear = clear and not (cell.is_value and (beside or at in values))
        values[at] = f"{values[at]} {cell.text}" if at in values else cell.text
    return _Line(row, _label(texts, labels), values, clear)


def _label(texts: list[Cell], labels: list[Column]) -> list[str]:
    if not labels:
        return [" ".join(cell.text for cell in texts)]
    parts = [""] * len(labels)
    for cell in texts:
        at = place(labels, cell)
        parts[at] = f"{parts[at]} {cell.text}".strip()
    return parts


def _whole_labels(lines: list[_Line], left: float) -> list[_Line]:
    """Lines of one row made one: those that stand closer than rows do, or whose label plainly goes on."""
    result: list[_Line] = []
    usual = _usual_step(lines)
    groups: list[list[_Line]] = []
    for line in lines:
        tight = bool(groups) and line.row.y - groups[-1][-1].row.y < _TIGHT * usual
        if tight:
            groups[-1].append(line)
        else:
            groups.append([line])
    for group in groups:
        valued = [line for line in group if line.values]
        if len(group) > 1 and len(valued) <= 1 and all(line.clear for line in group):
            result.append(_as_one(group))
        else:
            result += group
    return _joined_by_text(result, left)


def _usual_step(lines: list[_Line]) -> float:
    """The distance of two rows, from those with values that follow each other."""
    steps = [b.row.y - a.row.y for a, b in pairwise(lines) if a.values and b.values]
    return median(steps) if len(steps) > 1 else 0.0


def _as_one(group: list[_Line]) -> _Line:
    label = [" ".join(filter(None, parts)) for parts in zip(*(line.label for line in group), strict=True)]
    values = next((line.values for line in group if line.values), {})
    return _Line(group[-1].row, label, values, True)


def _joined_by_text(lines: list[_Line], left: float) -> list[_Line]:
    result: list[_Line] = []
    for line in lines:
        before = result[-1] if result else None
        if before is not None and before.clear and line.clear and _goes_on(before, line, left):
            result[-1] = _as_one([before, line])
        else:
            result.append(line)
    return result


def _goes_on(before: _Line, line: _Line, left: float) -> bool:
    """Whether a label that stands alone goes on in the next line, or that of a row in a line that stands alone."""
    if (before.values and line.values) or line.row.y - before.row.y > 1.7 * line.row.size:
        return False
    text, first = before.label[0], line.label[0]
    if not text or not first or _SECTION.search(text):
        return False
    if before.values:
        return first[0].islower()
    row = before.row
    full = row.x1 > left - 0.12 * (left - row.x0) - 2 * row.size
    indented = line.row.x0 > row.x0 - 1
    return (
        first[0].islower()
        or (full and indented and row.bold == line.row.bold)
        or text.endswith((",", " and", " of"))
    )
