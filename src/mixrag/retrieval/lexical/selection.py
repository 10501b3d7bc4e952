"""The best of many scores, without sorting all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixrag.utils.arrays import Floats

_BLOCK = 1024


def best(scores: Floats, n: int) -> npt.NDArray[np.int64]:
    """Places of the n highest scores, highest first; equal ones in their order. Fewer where there are fewer.

    The n-th highest of the blocks' highest scores is a lower bound of the n-th highest score; few are above it.
    """
    n = min(n, len(scores))
    if n <= 0:
        return np.empty(0, np.int64)
    bound = -np.inf
    whole = len(scores) // _BLOCK
    if whole > n:
        highest = scores[: whole * _BLOCK].reshape(whole, _BLOCK).max(axis=1)
        bound = np.partition(highest, whole - n)[whole - n]
    places = np.flatnonzero(scores >= bound)
    return places[np.argsort(-scores[places], kind="stable")[:n]]
