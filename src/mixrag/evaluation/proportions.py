"""Shares of questions with Wilson's interval (Wilson 1927), which holds near 0 and 1 where the bootstrap does not.

Brown, Cai & DasGupta 2001, "Interval Estimation for a Binomial Proportion", compares it with the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from mixrag.evaluation.bootstrap import Interval


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """The share ``successes`` / n and its score interval at this confidence level.

    Raises:
        ValueError: n < 1, successes outside [0, n], or a level outside (0, 1).
    """
    if n < 1 or not 0 <= successes <= n or not 0 < level < 1:
        raise ValueError(f"expected 0 <= successes <= n, n >= 1, level in (0, 1); found {successes}, {n}, {level}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, shrink = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n successes the ends are 0 and 1 exactly, which rounding would miss.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return Interval(share, low, 1.0 if successes == n else min(1.0, centre + half), n)


def share(values: Sequence[float | bool], level: float = 0.95) -> Interval:
    """The share of n outcomes (each 0 or 1) that are 1, with its interval.

    Raises:
        ValueError: there is none, or one that is neither 0 nor 1.
    """
    if not len(values):
        raise ValueError("expected one number or more; found none")
    if any(value not in (0, 1) for value in values):
        raise ValueError("expected outcomes of 0 or 1; found another number")
    return wilson(float(sum(values)), len(values), level)
