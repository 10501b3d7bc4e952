"""Order of reading: the columns of text of a page, each before the next.

A gutter is a place where many lines begin and that no line crosses. The text beside it is two columns only where
both sides read as prose, or their lines do not stand beside each other: a table has gutters too, and its rows must
stay whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mixrag.corpus.parsers.pdf.glyphs import Fragment, rows_of

_DEPTH = 8
_CANDIDATES = 6
_LEAST_LINES = 4
_NUMBER = re.compile(r"[-–—(]?[$€£¥]?[-–—(]?[\d.,]*\d[\d.,]*\)?%?|[-–—$€£¥%]")


def regions(fragments: Sequence[Fragment], depth: int = _DEPTH) -> list[list[Fragment]]:
    """The fragments of a page in regions of one column each, in the order of reading."""
    fragments = list(fragments)
    if depth == 0 or len(fragments) < 2 * _LEAST_LINES:
        return [fragments] if fragments else []
    split = _split(fragments)
    if split is None:
        return [fragments]
    return [region for part in split for region in regions(part, depth - 1)]


def _split(fragments: list[Fragment], nested: int = 2) -> list[list[Fragment]] | None:
    """Above, left, right and below of the best gutter; None where there is none."""
    for x in _gutters(fragments):
        for top, bottom in _bands(fragments, x):
            band = [f for f in fragments if top <= f.y <= bottom]
            left, right = [f for f in band if f.x1 <= x], [f for f in band if f.x0 >= x]
            if _are_columns(left, right, nested):
                above = [f for f in fragments if f.y < top]
                below = [f for f in fragments if f.y > bottom]
                return [part for part in (above, left, right, below) if part]
    return None


def _gutters(fragments: list[Fragment]) -> list[float]:
    """Places a little left of where many lines begin, the most frequent first."""
    leftmost = min(f.x0 for f in fragments)
    starts = Counter(round(f.x0 / 3) for f in fragments if f.x0 > leftmost + 3 * f.size)
    pairs = Counter({at: count + max(starts[at - 1], starts[at + 1]) for at, count in starts.items()})
    chosen: list[float] = []
    for at, count in pairs.most_common():
        if count < _LEAST_LINES or len(chosen) == _CANDIDATES:
            break
        if all(abs(at - other) > 2 for other in chosen):
            chosen.append(at)
    return [at * 3 - 3.5 for at in chosen]


def _bands(fragments: list[Fragment], x: float) -> list[tuple[float, float]]:
    """Stretches of the page, the longest first, in which nothing crosses ``x``: their first and last baselines."""
    ordered = sorted(fragments, key=lambda f: f.y)
    bands: list[tuple[float, float]] = []
    current: list[float] = []
    for each in ordered:
        if each.x0 < x < each.x1:
            if current:
                bands.append((current[0], current[-1]))
            current = []
        else:
            current.append(each.y)
    if current:
        bands.append((current[0], current[-1]))
    # A line that crosses takes all that stands on it out of the band.
    return sorted(bands, key=lambda band: band[0] - band[1])[:3]


def _are_columns(left: list[Fragment], right: list[Fragment], nested: int) -> bool:
    lines, others = rows_of(left), rows_of(right)
    if len(lines) < _LEAST_LINES or len(others) < _LEAST_LINES:
        return False
    if _gap(left, right) < 0.5 * min(left[0].size, right[0].size):
        return False
    prose = [
        _is_prose(rows) or (nested > 0 and _split(side, nested - 1) is not None)
        for rows, side in ((lines, left), (others, right))
    ]
    if all(prose):
        return True
    alone = _alone(lines, others)
    return (any(prose) and alone > 0.4) or alone > 0.7


def _gap(left: list[Fragment], right: list[Fragment]) -> float:
    return min(f.x0 for f in right) - max(f.x1 for f in left)


def _is_prose(rows: list[list[Fragment]]) -> bool:
    """Whether most lines are full, of several words, and not of numbers."""
    start, end = min(row[0].x0 for row in rows), max(row[-1].x1 for row in rows)
    words = [word for row in rows for f in row for word in f.text.split()]
    if not words or sum(map(bool, map(_NUMBER.fullmatch, words))) > 0.25 * len(words):
        return False
    full = sum(row[-1].x1 - row[0].x0 > 0.6 * (end - start) for row in rows)
    pieces = sum(map(len, rows))
    return full >= 0.6 * len(rows) and len(words) >= 3 * len(rows) and pieces < 1.5 * len(rows)


def _alone(lines: list[list[Fragment]], others: list[list[Fragment]]) -> float:
    """Share of the rows of the shorter column that stand beside no row of the other."""
    few, many = sorted((lines, others), key=len)
    ys = [row[0].y for row in many]
    alone, at = 0, 0
    for row in few:
        y, near = row[0].y, 0.25 * row[0].size
        while at < len(ys) and ys[at] < y - near:
            at += 1
        alone += at == len(ys) or ys[at] > y + near
    return alone / len(few)
