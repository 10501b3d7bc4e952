"""Which pairs make up which step: a function of the seed alone, so that a resumed run is the same run."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

WINDOW = 8
"""Batches that are sorted by length together: enough for little padding, few enough to stay random."""


def epoch_batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Every index once, in batches of ``size`` (the last may be smaller), like lengths together.

    Args:
        lengths: what a pair costs, in tokens.
        size: pairs in a batch.
        seed: of the whole run.
        epoch: number of the epoch, from 0.
    """
    source = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    source.shuffle(order)
    span = WINDOW * size
    windows = (sorted(order[i : i + span], key=lambda j: lengths[j]) for i in range(0, len(order), span))
    batches = [window[i : i + size] for window in windows for i in range(0, len(window), size)]
    source.shuffle(batches)
    return batches


def steps_in_epoch(pairs: int, size: int) -> int:
    """Batches of one epoch."""
    return math.ceil(pairs / size)


def rate_factor(step: int, total: int, warmup: float) -> float:
    """The factor of the peak learning rate at a step, from 0: a linear rise, then half a cosine to 0.1."""
    rising = max(1, round(warmup * total))
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, total - rising)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
