"""Units of text (sentences, rows, items, lines) joined to passages of a bounded number of tokens."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from mixrag.corpus.splitters.protocol import Offsets
from mixrag.corpus.splitters.sentences import trimmed
from mixrag.corpus.splitters.tokens import Starts, Tokens

_WINDOW = 8192
_BATCH = 2**18
_CLAUSE = ",;:)]}、，；：،؛|"


@dataclass(slots=True)
class Unit:
    """A stretch that passages do not divide where it fits into one."""

    start: int
    end: int
    last: bool = False
    """The last one of its block: a better place to end a passage."""
    leads: bool = False
    """What follows belongs to it: a worse place."""
    size: int = 0
    """Tokens."""


def measured(text: str, units: Iterable[Unit], limit: int, tokens: Tokens) -> Iterator[list[Unit]]:
    """For each unit in turn its parts, measured, each of at most ``limit`` tokens; the unit itself where it fits.

    Texts are counted in batches, and long ones in windows, so that memory is bounded and time linear.
    """
    batch: list[Unit] = []
    characters = 0
    for unit in units:
        batch.append(unit)
        characters += unit.end - unit.start
        if characters >= _BATCH:
            yield from _measured(text, batch, limit, tokens)
            batch, characters = [], 0
    yield from _measured(text, batch, limit, tokens)


def packed(units: Sequence[Unit], first: int, limit: int) -> list[Offsets]:
    """Spans of passages of whole units, together at most ``limit`` tokens each.

    A passage ends at the end of a block where that leaves it at least half full, and not after a unit that leads
    to the next one; the last two are about as long as each other. No passage ends within the ``first`` units
    (headings), unless these alone are too long.
    """
    total = [0, *accumulate(unit.size for unit in units)]
    spans, i = [], 0
    while i < len(units):
        j = _stop(units, total, i, limit, first)
        spans.append((units[i].start, units[j - 1].end))
        i = j
    return spans


def _stop(units: Sequence[Unit], total: Sequence[int], i: int, limit: int, first: int) -> int:
    """Index after the last unit of the passage that begins with unit ``i``."""
    furthest = max(i + 1, bisect_right(total, total[i] + limit) - 1)
    if furthest == len(units):
        return furthest
    rest = total[-1] - total[i]
    lowest, wanted = bisect_left(total, total[i] + limit / 2), total[i] + limit
    if rest <= 2 * limit:  # two passages will do
        lowest, wanted = bisect_left(total, total[-1] - limit), total[i] + rest // 2
    lowest = max(lowest, i + 1, min(first + 1, furthest) if i < first else 0)
    if lowest > furthest:
        return furthest
    choices = [j for j in range(lowest, furthest + 1) if not units[j - 1].leads] or range(lowest, furthest + 1)
    least = min(limit, rest) / 4
    ends = [j for j in choices if units[j - 1].last and total[j] - total[i] >= least <= total[-1] - total[j]]
    return min(ends or choices, key=lambda j: abs(total[j] - wanted))


def _measured(text: str, units: Sequence[Unit], limit: int, tokens: Tokens) -> Iterator[list[Unit]]:
    windows = [list(_windows(text, unit)) for unit in units]
    flat = [window for each in windows for window in each]
    counted = iter(tokens.starts([text[start:end] for start, end in flat]))
    for unit, own in zip(units, windows, strict=True):
        parts = [part for start, end in own for part in _divided(text, start, end, next(counted), limit)]
        if parts:
            parts[-1].last, parts[-1].leads = unit.last, unit.leads
        yield parts


def _windows(text: str, unit: Unit) -> Iterator[Offsets]:
    """The unit in stretches that are short enough to be counted, cut at spaces where there are some."""
    start = unit.start
    while unit.end - start > _WINDOW:
        stop = start + _WINDOW
        spaces = [text.rfind(space, start + _WINDOW // 2, stop) for space in "\n "]
        stop = next((place for place in spaces if place > 0), stop)
        if span := trimmed(text, start, stop):
            yield span
        start = stop
    if span := trimmed(text, start, unit.end):
        yield span


def _divided(text: str, start: int, end: int, starts: Starts, limit: int) -> Iterator[Unit]:
    """Parts of a stretch, each of at most ``limit`` tokens, about equally long; cut at lines, clauses or words."""
    count = max(1, len(starts))
    if count <= limit:
        yield Unit(start, end, size=count)
        return
    places = [start + int(place) for place in starts]
    i = 0
    while i < count:
        j = _cut(text, places, i, limit)
        begin, stop = (start if i == 0 else places[i]), (end if j == count else places[j])
        if span := trimmed(text, begin, stop):
            yield Unit(*span, size=j - i)
        i = j


def _cut(text: str, places: Sequence[int], i: int, limit: int) -> int:
    """Index of the token at which the next part begins: the best boundary nearest to an even division."""
    left = len(places) - i
    parts = -(-left // limit)
    if parts == 1:
        return len(places)
    wanted = left / parts
    lowest = max(i + 1, i + left - (parts - 1) * limit, i + int(wanted * 0.6))
    choices = range(lowest, min(i + limit, len(places) - 1) + 1)
    return min(choices, key=lambda j: (_weakness(text, places[j]), abs(j - i - wanted)))


def _weakness(text: str, place: int) -> int:
    """0 where a line ends before this place, 1 a clause, 2 a word, 3 nothing."""
    before = text[place - 1 : place]
    if not before.isspace():
        return 1 if before in "、，；：" else 3
    if before == "\n":
        return 0
    return 1 if text[place - 2 : place - 1] in _CLAUSE else 2
