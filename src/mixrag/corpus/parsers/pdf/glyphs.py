"""The words of a PDF page with their places, from the glyphs that pdfium finds.

Coordinates are in points, turned so that most of the page's text runs from left to right; y grows downwards.
"""

from __future__ import annotations

import ctypes
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixrag.corpus.parsers.raised import superscript
from mixrag.utils.extras import require

Floats = NDArray[np.float64]

WORD_GAP = 0.25
"""In units of the font size: a wider gap between glyphs is a space, even where none is drawn."""
CELL_GAP = 0.7
"""A wider one ends the fragment: the next word may belong to another column."""

_HYPHEN = 0x02  # what pdfium makes of a hyphen at the end of a line
_BULLETS = {0xF0B7: "•", 0xF0A7: "•", 0xF0D8: "•", 0xF076: "•", 0xF0A8: "•", 0x25CF: "•", 0x25AA: "•", 0x25A0: "•"}


Word = tuple[float, float, str]
"""Left edge, right edge, text."""


@dataclass(slots=True)
class Fragment:
    """Words on one line with no wide gap between them."""

    x0: float
    x1: float
    y: float
    """Of the baseline."""
    size: float
    """Font size in points."""
    bold: bool
    words: list[Word] = field(default_factory=list)
    grid: list[list[str | None]] | None = None
    """Cells of a ruled table that stands here instead of words."""

    @property
    def text(self) -> str:
        """The words with single spaces."""
        return " ".join(word[2] for word in self.words)


@dataclass(slots=True)
class PageText:
    """What is written on a page."""

    fragments: list[Fragment]
    turned: list[str]
    """Lines that run in another direction than most of the page."""
    outside: int
    """Glyphs outside of what is shown of the page."""
    top: float
    bottom: float
    angle: float = 0.0
    """Of the text on the page as it is stored, in radians."""


@dataclass(slots=True)
class _Glyphs:
    codes: NDArray[np.int64]
    boxes: Floats
    """Left, bottom, right, top, x and y of the origin, angle: one row a glyph."""
    spaced: NDArray[np.bool_]
    """Whether a space or a line end stands in front of it."""
    index: NDArray[np.int64]
    """Its number on pdfium's page."""


Field = tuple[float, float, float, float, str]
"""Left, bottom, right and top edge of a form field, and its value."""


def page_text(page: Any, fields: Sequence[Field] = ()) -> PageText:
    """Fragments of a page of pypdfium2, and those of its form fields, in no order."""
    raw = require("pypdfium2.raw", "files", "PDF")
    text = page.get_textpage()
    try:
        glyphs = _visible(_glyphs(raw, text.raw))
        shown = _box(page)
        inside = _inside(glyphs, shown)
        outside = int((~inside).sum())
        glyphs = _select(glyphs, inside)
        main, rest = _by_direction(glyphs)
        turn = _quarter(main)
        corners = turned(np.array([[shown[0], shown[1]], [shown[2], shown[3]]]), turn)
        fragments = _fragments(raw, text.raw, main, turn)
        fragments += _of_fields(fields, turn, fragments)
        other = [" ".join(f.text for f in _fragments(raw, text.raw, each, _quarter(each))) for each in rest]
    finally:
        text.close()
    return PageText(
        fragments, list(filter(None, other)), outside, float(corners[:, 1].min()), float(corners[:, 1].max()), turn
    )


def _of_fields(fields: Sequence[Field], turn: float, fragments: list[Fragment]) -> list[Fragment]:
    """The values as fragments, each on the line of the text that it stands beside."""
    size = statistics.median(f.size for f in fragments) if fragments else 10.0
    result = []
    for *box, value in fields:
        corners = turned(np.array(box).reshape(2, 2), turn)
        x0, x1 = corners[:, 0].min(), corners[:, 0].max()
        y = float(corners[:, 1].mean()) + 0.35 * size
        beside = min((f.y for f in fragments), key=lambda other: abs(other - y), default=y)
        y = beside if abs(beside - y) < 0.6 * size else y
        result.append(Fragment(float(x0), float(x1), y, size, False, [(float(x0), float(x1), value)]))
    return result


def _glyphs(raw: Any, text: Any) -> _Glyphs:
    count = max(0, raw.FPDFText_CountChars(text))
    codes = np.empty(count, np.int64)
    boxes = np.empty((count, 7))
    rect, x, y = raw.FS_RECTF(), ctypes.c_double(), ctypes.c_double()
    loose, origin, unicode, angle = (
        raw.FPDFText_GetLooseCharBox,
        raw.FPDFText_GetCharOrigin,
        raw.FPDFText_GetUnicode,
        raw.FPDFText_GetCharAngle,
    )
    for i in range(count):
        loose(text, i, rect)
        origin(text, i, x, y)
        codes[i] = unicode(text, i)
        boxes[i] = (rect.left, rect.bottom, rect.right, rect.top, x.value, y.value, angle(text, i))
    spaced = np.zeros(count, bool)
    return _Glyphs(codes, boxes, spaced, np.arange(count))


def _visible(glyphs: _Glyphs) -> _Glyphs:
    """Without spaces, line ends and what has no place; a glyph drawn twice for weight counts once."""
    codes, boxes = glyphs.codes, glyphs.boxes
    blank = (codes <= 0x20) & (codes != _HYPHEN) | np.isin(
        codes, (0xA0, 0x2007, 0x2009, 0x202F, 0x3000, 0xFFFE, 0xFFFF)
    )
    broken = ~np.isfinite(boxes).all(axis=1)
    spaced = np.concatenate(([True], blank[:-1])) if len(codes) else blank
    drawn = ~blank & ~broken
    kept = _Glyphs(codes[drawn], boxes[drawn], spaced[drawn], glyphs.index[drawn])
    if not len(kept.codes):
        return kept
    size = np.maximum(np.abs(kept.boxes[:, 3] - kept.boxes[:, 1]), 0.5)
    places = np.round(kept.boxes[:, 4:6] / (0.12 * size[:, None])).astype(np.int64)
    _, first = np.unique(
        np.column_stack((kept.codes, np.round(size * 20).astype(np.int64), places)), axis=0, return_index=True
    )
    once = np.zeros(len(kept.codes), bool)
    once[first] = True
    once[1:] = once[1:] | _same_glyph(kept)
    return _select(kept, once)


def _same_glyph(glyphs: _Glyphs) -> NDArray[np.bool_]:
    """Whether a character stands for the same glyph as the one before it: the letters of a ligature."""
    unmoved = (np.abs(np.diff(glyphs.boxes[:, 4:6], axis=0)) < 1e-3).all(axis=1)
    return np.asarray(unmoved & (np.diff(glyphs.index) == 1), bool)


def _even_heights(heights: Floats, glyphs: _Glyphs) -> Floats:
    """The heights of the glyphs, that of a ligature's letters from the glyph before it: pdfium's is of the ink."""
    same = _same_glyph(glyphs)
    parts = np.concatenate((same, [False])) | np.concatenate(([False], same))
    whole = np.flatnonzero(~parts)
    if not len(whole):
        return heights
    nearest = whole[np.clip(np.searchsorted(whole, np.arange(len(heights)), side="right") - 1, 0, None)]
    return np.where(parts, heights[nearest], heights)


def _select(glyphs: _Glyphs, which: Any) -> _Glyphs:
    return _Glyphs(glyphs.codes[which], glyphs.boxes[which], glyphs.spaced[which], glyphs.index[which])


def _box(page: Any) -> tuple[float, float, float, float]:
    left, bottom, right, top = page.get_cropbox()
    return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


def _inside(glyphs: _Glyphs, box: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    x = (glyphs.boxes[:, 0] + glyphs.boxes[:, 2]) / 2
    y = (glyphs.boxes[:, 1] + glyphs.boxes[:, 3]) / 2
    inside: NDArray[np.bool_] = (x >= box[0] - 2) & (x <= box[2] + 2) & (y >= box[1] - 2) & (y <= box[3] + 2)
    return inside


def _by_direction(glyphs: _Glyphs) -> tuple[_Glyphs, list[_Glyphs]]:
    """The glyphs of the direction that most of them have, and the others by direction (in steps of 15 degrees)."""
    steps = np.round(glyphs.boxes[:, 6] / (math.pi / 12)).astype(np.int64) % 24
    if not len(steps):
        return glyphs, []
    values, counts = np.unique(steps, return_counts=True)
    most = values[counts.argmax()]
    return _select(glyphs, steps == most), [_select(glyphs, steps == value) for value in values if value != most]


def _quarter(glyphs: _Glyphs) -> float:
    """The angle that the glyphs run at, in radians."""
    if not len(glyphs.codes):
        return 0.0
    clockwise = (glyphs.boxes[:, 6] + math.pi) % (2 * math.pi) - math.pi
    return -float(np.median(clockwise))


def turned(points: Floats, angle: float) -> Floats:
    """The points after a turn by ``-angle``, y downwards."""
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = points[:, 0], points[:, 1]
    return np.column_stack((x * cos + y * sin, x * sin - y * cos))


def _fragments(raw: Any, text: Any, glyphs: _Glyphs, angle: float) -> list[Fragment]:
    if not len(glyphs.codes):
        return []
    boxes = glyphs.boxes
    corners = [turned(boxes[:, [i, j]], angle) for i, j in ((0, 1), (2, 1), (0, 3), (2, 3))]
    xs, ys = np.stack([c[:, 0] for c in corners]), np.stack([c[:, 1] for c in corners])
    x0, x1 = xs.min(axis=0), xs.max(axis=0)
    height = _even_heights(np.maximum(ys.max(axis=0) - ys.min(axis=0), 0.1), glyphs)
    y = turned(boxes[:, 4:6], angle)[:, 1]
    gap = x0[1:] - x1[:-1]
    em = np.minimum(height[1:], height[:-1]) * 0.87  # the box is some 15 per cent higher than the font size
    same = (np.abs(y[1:] - y[:-1]) < 0.06 * em) & (np.abs(height[1:] - height[:-1]) < 0.06 * em)
    joined = same & (gap < CELL_GAP * em) & (gap > -0.5 * em)
    starts = np.concatenate(([0], np.flatnonzero(~joined) + 1, [len(y)]))
    breaks = np.concatenate(([True], ~joined | glyphs.spaced[1:] & (gap > 0.02 * em) | (gap > WORD_GAP * em)))
    characters = [_character(code) for code in glyphs.codes.tolist()]
    runs = []
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        places = [start, *(i for i in range(start + 1, end) if breaks[i]), end]
        words = [(float(x0[a]), float(x1[b - 1]), "".join(characters[a:b])) for a, b in pairwise(places)]
        size, bold = _style(raw, text, int(glyphs.index[start]), float(height[start]))
        runs.append(Fragment(words[0][0], words[-1][1], float(y[start]), size, bold, words))
    return _merged(_level(runs))


def _character(code: int) -> str:
    if code in (_HYPHEN, 0xAD, 0x2010, 0x2011):  # a soft hyphen that has a glyph is seen
        return "-"
    if code in _BULLETS:
        return _BULLETS[code]
    return chr(code) if 0x20 <= code < 0xD800 or 0xE000 <= code <= 0x10FFFF else ""


def _style(raw: Any, text: Any, index: int, height: float) -> tuple[float, bool]:
    """Font size in points and whether the font is bold, of one glyph."""
    matrix = raw.FS_MATRIX()
    size = raw.FPDFText_GetFontSize(text, index)
    if raw.FPDFText_GetMatrix(text, index, matrix):
        size *= math.hypot(matrix.c, matrix.d)
    if not 0.5 < size / (height * 0.87) < 2:
        size = height * 0.87
    name = ctypes.create_string_buffer(128)
    flags = ctypes.c_int()
    raw.FPDFText_GetFontInfo(text, index, name, 128, flags)
    font = name.value.lower()
    bold = any(part in font for part in (b"bold", b"black", b"heavy", b"-bd", b"demi"))
    return size, bold or raw.FPDFText_GetFontWeight(text, index) >= 600 or bool(flags.value & 1 << 18)


def _level(runs: list[Fragment]) -> list[Fragment]:
    """Raised and lowered small runs put on the line that they belong to; raised ones become ^6."""
    for i, run in enumerate(runs):
        for other in (runs[i - 1] if i else None, runs[i + 1] if i + 1 < len(runs) else None):
            if other is None or run.size > 0.85 * other.size:
                continue
            raised = other.y - run.y
            near = min(abs(run.x0 - other.x1), abs(other.x0 - run.x1)) < 0.5 * other.size
            if not near or not -0.45 * other.size < raised < 0.75 * other.size:
                continue
            if raised > 0.12 * other.size:
                after = other.words[-1][2][-1:] if other.x1 <= run.x0 + 0.5 * other.size else ""
                run.words = [(a, b, superscript(text, after)) for a, b, text in run.words]
            run.y, run.size = other.y, other.size
            break
    return runs


def rows_of(fragments: list[Fragment]) -> list[list[Fragment]]:
    """Fragments on the same baseline, from left to right; rows from the top down."""
    rows: list[list[Fragment]] = []
    for each in sorted(fragments, key=lambda f: (f.y, f.x0)):
        if rows and each.y - rows[-1][0].y <= 0.3 * min(each.size, rows[-1][0].size):
            rows[-1].append(each)
        else:
            rows.append([each])
    for row in rows:
        row.sort(key=lambda f: f.x0)
    return rows


def _merged(runs: list[Fragment]) -> list[Fragment]:
    """Runs on one line joined where no wide gap is between them."""
    result: list[Fragment] = []
    for row in rows_of(runs):
        current = row[0]
        for each in row[1:]:
            em = max(current.size, each.size)
            gap = each.x0 - current.x1
            if gap < CELL_GAP * em and gap > -0.6 * em:
                words = list(each.words)
                if gap < 0.15 * em:
                    a, _, text = current.words.pop()
                    words[0] = (a, words[0][1], text + words[0][2])
                wide = len(each.text) > len(current.text)
                current.words += words
                current.x1 = max(current.x1, each.x1)
                current.size = each.size if wide else current.size
                current.bold = current.bold and each.bold
            else:
                result.append(current)
                current = each
        result.append(current)
    return result
