"""The best of many scores, without sorting all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixrag.utils.arrays import Floats

_LEAST, _MOST = 16, 1024
"""Scores in a block."""
_BLOCKS = 16
"""Blocks for each of the best."""


def best(scores: Floats, n: int) -> npt.NDArray[np.int64]:
    """Places of the n highest scores, highest first; equal ones in their order. Fewer where there are fewer."""
    n = min(n, len(scores))
    if n <= 0:
        return np.empty(0, np.int64)
    places = np.flatnonzero(scores >= _bound(scores, n))
    return places[np.argsort(-scores[places], kind="stable")[:n]]


def _bound(scores: Floats, n: int) -> float:
    """A lower bound of the n-th highest score.

    Of the blocks' highest scores the n-th is one; few scores are above it.
    """
    block = min(_MOST, len(scores) // (_BLOCKS * n))
    if block < _LEAST:
        return float(np.partition(scores, len(scores) - n)[len(scores) - n])
    whole = len(scores) // block
    highest_of = scores[: whole * block].reshape(whole, block).max(axis=1)
    return float(np.partition(highest_of, whole - n)[whole - n])
