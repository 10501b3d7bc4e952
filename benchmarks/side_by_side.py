"""Ours and a peer, alternately in one process: medians, their ratio, its spread, and a file of all rows.

A measurement is a number of seconds, of which less is better: on the clock or, after ``use_processor_time``, of
one thread's work, which other processes on the machine disturb less. ``ratio`` is the peer's median over ours: how
many times faster ours is. ``spread`` is the smallest and largest ratio of a pair of neighbouring rounds.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results.json"


@dataclass(frozen=True)
class Row:
    """One line of the table of benchmarks."""

    row: str
    scenario: str
    ours: float
    """Median, in seconds."""
    peer: float
    ratio: float
    spread: tuple[float, float]
    goal: str


_CLOCK = [time.perf_counter]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    clock = _CLOCK[-1]
    start = clock()
    work()
    return clock() - start


def use_processor_time() -> None:
    """Compute with one thread, and count what it computes; for models that are loaded afterwards."""
    torch.set_num_threads(1)
    _CLOCK.append(time.process_time)


def alternately(
    row: str,
    scenario: str,
    goal: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    rounds: int,
) -> Row:
    """One unmeasured round, then ``rounds`` of both in turn; each function gives the seconds that count."""
    pairs = []
    for number in range(rounds + 1):
        if number % 2:
            first = ours()
            pairs.append((first, peer()))
        else:
            first = peer()
            pairs.append((ours(), first))
    pairs = pairs[1:]
    mine, other = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratios = [b / a for a, b in pairs]
    return Row(row, scenario, mine, other, other / mine, (min(ratios), max(ratios)), goal)


def show(rows: Sequence[Row]) -> None:
    """Print a Markdown table."""
    head = ("row", "scenario", "ours, ms", "peer, ms", "ratio", "spread", "goal")
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for each in rows:
        spread = f"{each.spread[0]:.1f} to {each.spread[1]:.1f}"
        times = f"{1000 * each.ours:.1f} | {1000 * each.peer:.1f}"
        print(f"| {each.row} | {each.scenario} | {times} | {each.ratio:.1f} | {spread} | {each.goal} |")


def keep(rows: Sequence[Row]) -> None:
    """Put the rows into results.json, in the place of those of the same row and scenario."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    measured = {(each.row, each.scenario) for each in rows}
    others = [each for each in known if (each["row"], each["scenario"]) not in measured]
    every = sorted([*others, *map(asdict, rows)], key=lambda each: (each["row"], each["scenario"]))
    RESULTS.write_text(f"{json.dumps(every, indent=1)}\n", encoding="utf-8")
