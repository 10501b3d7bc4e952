"""Tables with ruled cells: the lines of a PDF page that cross make a grid, and its cells hold the text."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixrag.corpus.parsers.pdf.glyphs import Fragment, PageText, Word, rows_of, turned

_PATHS = 4_000
_SEGMENTS = 400
"""A path with more is a drawing."""
_LINES = 3_000
_NEAR = 3.0
"""Lines nearer than this, in points, are one."""
_THIN = 2.5


@dataclass(slots=True)
class _Line:
    """A ruled line along an axis: ``at`` on the other one."""

    at: float
    start: float
    end: float


def lines_of(raw: Any, page: Any, angle: float) -> tuple[list[_Line], list[_Line]]:
    """The horizontal and the vertical lines of a page, in the coordinates of its fragments."""
    across: list[_Line] = []
    down: list[_Line] = []
    paths = 0
    for i in range(min(raw.FPDFPage_CountObjects(page), 20_000)):
        item = raw.FPDFPage_GetObject(page, i)
        if raw.FPDFPageObj_GetType(item) != raw.FPDF_PAGEOBJ_PATH:
            continue
        paths += 1
        if paths > _PATHS or len(across) + len(down) > _LINES:
            return [], []  # a drawing
        for start, end in _edges(raw, item, angle):
            if abs(start[1] - end[1]) < 1 and abs(start[0] - end[0]) > 4:
                across.append(_Line((start[1] + end[1]) / 2, *sorted((start[0], end[0]))))
            elif abs(start[0] - end[0]) < 1 and abs(start[1] - end[1]) > 4:
                down.append(_Line((start[0] + end[0]) / 2, *sorted((start[1], end[1]))))
    return across, down


def _edges(raw: Any, path: Any, angle: float) -> Iterator[tuple[list[float], list[float]]]:
    """Straight segments of a path that is drawn as lines: stroked, or filled and thin."""
    count = raw.FPDFPath_CountSegments(path)
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    if not 2 <= count <= _SEGMENTS or not raw.FPDFPath_GetDrawMode(path, fill, stroke):
        return
    matrix, x, y = raw.FS_MATRIX(), ctypes.c_float(), ctypes.c_float()
    raw.FPDFPageObj_GetMatrix(path, matrix)
    points: list[tuple[float, float]] = []
    starts: list[bool] = []
    for k in range(count):
        segment = raw.FPDFPath_GetPathSegment(path, k)
        kind = raw.FPDFPathSegment_GetType(segment)
        if kind == raw.FPDF_SEGMENT_BEZIERTO:
            return
        raw.FPDFPathSegment_GetPoint(segment, x, y)
        points.append(
            (
                matrix.a * x.value + matrix.c * y.value + matrix.e,
                matrix.b * x.value + matrix.d * y.value + matrix.f,
            )
        )
        starts.append(kind == raw.FPDF_SEGMENT_MOVETO)
    places = turned(np.array(points), angle)
    if not np.isfinite(places).all() or not (stroke.value or np.ptp(places, axis=0).min() < _THIN):
        return
    first = places[0]
    for k in range(1, count):
        if starts[k]:
            first = places[k]
            continue
        yield places[k - 1].tolist(), places[k].tolist()
        if raw.FPDFPathSegment_GetClose(raw.FPDFPath_GetPathSegment(path, k)):
            yield places[k].tolist(), first.tolist()


def put_grids(text: PageText, across: Sequence[_Line], down: Sequence[_Line]) -> None:
    """Replace the fragments inside of each grid by one that holds its cells."""
    if len(across) < 3 or len(down) < 3:
        return
    for rows, columns in _groups(across, down):
        _put(text, rows, columns)


def _groups(across: Sequence[_Line], down: Sequence[_Line]) -> list[tuple[list[_Line], list[_Line]]]:
    """Lines that are connected by crossings: at least three each way."""
    parent = list(range(len(across) + len(down)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    starts = np.array([[line.at, line.start, line.end] for line in across])
    for j, line in enumerate(down):
        crossing = (
            (starts[:, 0] >= line.start - _NEAR)
            & (starts[:, 0] <= line.end + _NEAR)
            & (starts[:, 1] <= line.at + _NEAR)
            & (starts[:, 2] >= line.at - _NEAR)
        )
        for i in np.flatnonzero(crossing).tolist():
            parent[root(i)] = root(len(across) + j)
    groups: dict[int, tuple[list[_Line], list[_Line]]] = {}
    for i, line in enumerate([*across, *down]):
        groups.setdefault(root(i), ([], []))[i >= len(across)].append(line)
    return [group for group in groups.values() if len(_places(group[0])) >= 3 and len(_places(group[1])) >= 3]


def _places(lines: Sequence[_Line]) -> list[float]:
    """Where the lines stand, those that are near each other as one."""
    result: list[float] = []
    for at in sorted(line.at for line in lines):
        if not result or at - result[-1] > _NEAR:
            result.append(at)
    return result


def _put(text: PageText, across: list[_Line], down: list[_Line]) -> None:
    ys, xs = _places(across), _places(down)
    inside = [f for f in text.fragments if ys[0] < f.y < ys[-1] + 1 and xs[0] - 2 < (f.x0 + f.x1) / 2 < xs[-1] + 2]
    cells: list[list[list[Word]]] = [[[] for _ in xs[1:]] for _ in ys[1:]]
    for row in rows_of(inside):
        for fragment in row:
            middle = fragment.y - 0.3 * fragment.size
            i = max(0, min(len(ys) - 2, int(np.searchsorted(ys, middle)) - 1))
            for word in fragment.words:
                j = int(np.searchsorted(xs, (word[0] + word[1]) / 2)) - 1
                cells[i][max(0, min(len(xs) - 2, j))].append(word)
    table: list[list[str | None]] = [
        _row_texts(row, down, xs, (ys[i] + ys[i + 1]) / 2) for i, row in enumerate(cells)
    ]
    table = [row for row in table if any(row)]
    filled = sum(cell != "" for row in table for cell in row)
    if len(table) < 2 or filled < 0.4 * len(table) * (len(xs) - 1) or filled < 4:
        return
    first = min(inside, key=lambda f: f.y)
    gone = set(map(id, inside))
    text.fragments = [f for f in text.fragments if id(f) not in gone]
    text.fragments.append(Fragment(xs[0], xs[-1], first.y, first.size, False, [], table))


def _row_texts(row: list[list[Word]], down: list[_Line], xs: list[float], middle: float) -> list[str | None]:
    """The text of each cell; None in the columns that it covers besides its first."""
    texts: list[str | None] = [None] * len(row)
    start = 0
    for j in range(len(row)):
        edge = xs[j + 1]
        closed = any(abs(line.at - edge) <= _NEAR and line.start - 1 <= middle <= line.end + 1 for line in down)
        if not closed and j + 1 < len(row):
            continue
        whole = " ".join(word[2] for cell in row[start : j + 1] for word in cell)
        texts[start] = whole
        start = j + 1
    return texts
