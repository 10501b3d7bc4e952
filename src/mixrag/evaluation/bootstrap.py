"""Means over questions with their bootstrap intervals (Efron & Tibshirani 1993, the percentile method)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixrag.utils.arrays import Floats


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions and the interval that contains it in most resamples of them."""

    mean: float
    low: float
    high: float
    n: int
    """Number of values."""

    def __format__(self, spec: str) -> str:
        """The mean and, in brackets, its interval, all three formatted by ``spec``; "undefined" without a mean."""
        if math.isnan(self.mean):
            return "undefined"
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def bootstrap(values: Sequence[float], resamples: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """Mean of values (n,) and its percentile interval over resamples with replacement; a function of the seed.

    Values that are infinite on both sides have no mean: all three are NaN then.

    Raises:
        ValueError: no value, one that is not a number, no resample, or a level outside (0, 1).
    """
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1 or not len(sample) or bool(np.isnan(sample).any()):
        raise ValueError(f"expected one number or more; found {len(sample)} values, or NaN among them")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"expected resamples >= 1 and a level in (0, 1); found {resamples} and {level}")
    if {math.inf, -math.inf} <= set(sample[np.isinf(sample)].tolist()):
        return Interval(math.nan, math.nan, math.nan, len(sample))
    means = np.sort(_means(sample, resamples, np.random.default_rng(seed)))
    # Values of the resamples themselves, rounded outwards: between two infinite ones nothing can be interpolated.
    last, tail = resamples - 1, (1 - level) / 2
    low, high = means[math.floor(tail * last)], means[math.ceil((1 - tail) * last)]
    return Interval(float(sample.mean()), float(low), float(high), len(sample))


def paired_difference(
    a: Sequence[float], b: Sequence[float], resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Mean of a - b with its interval, for two systems on the same questions (n,), which are resampled in pairs.

    Raises:
        ValueError: a and b differ in length, or as ``bootstrap`` does.
    """
    if len(a) != len(b):
        raise ValueError(f"expected scores of the same questions; found {len(a)} and {len(b)}")
    # Equal scores differ by nothing, infinite ones included.
    differences = [0.0 if x == y else x - y for x, y in zip(a, b, strict=True)]
    return bootstrap(differences, resamples, seed, level)


def _means(sample: Floats, resamples: int, source: np.random.Generator, at_once: int = 2**22) -> Floats:
    """(resamples,) means of n values drawn with replacement, about ``at_once`` of them in memory at a time."""
    n, means = len(sample), np.empty(resamples)
    rows = max(1, at_once // n)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        means[start : start + size] = sample[source.integers(n, size=(size, n))].mean(axis=1)
    return means
