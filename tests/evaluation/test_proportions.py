"""Wilson's interval: its equation, its coverage, its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mixrag.evaluation.bootstrap import bootstrap
from mixrag.evaluation.proportions import share, wilson


@pytest.mark.parametrize("successes, n", [(1, 60), (0, 10), (30, 60), (59, 60), (10, 10)])
def test_the_ends_are_the_proportions_that_the_score_test_just_does_not_reject(successes: int, n: int) -> None:
    found = wilson(successes, n)
    assert found.mean == successes / n and found.n == n
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert abs(successes / n - end) / math.sqrt(end * (1 - end) / n) == pytest.approx(1.959964, rel=1e-6)
    assert found.low == 0.0 if successes == 0 else found.low > 0.0
    assert found.high == 1.0 if successes == n else found.high < 1.0


@pytest.mark.parametrize("p, n", [(0.02, 60), (0.05, 60), (0.5, 60), (0.98, 60), (0.02, 250)])
def test_it_covers_the_share_that_it_says_near_0_and_1_too(p: float, n: int) -> None:
    counts = np.random.default_rng(0).binomial(n, p, 20_000)
    inside = [wilson(k, n).low <= p <= wilson(k, n).high for k in range(n + 1)]
    assert np.array(inside)[counts].mean() >= 0.93


def test_the_bootstrap_does_not_cover_there() -> None:
    counts = np.random.default_rng(0).binomial(60, 0.02, 400)
    intervals = {k: bootstrap([1.0] * k + [0.0] * (60 - k), resamples=300) for k in set(counts.tolist())}
    assert np.mean([intervals[k].low <= 0.02 <= intervals[k].high for k in counts.tolist()]) < 0.8


def test_a_wider_level_is_a_wider_interval() -> None:
    narrow, wide = wilson(3, 20, 0.5), wilson(3, 20, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_shares_are_counted_from_outcomes() -> None:
    assert share([1.0, 0.0, True, False]) == wilson(2, 4)
    with pytest.raises(ValueError, match="0 or 1"):
        share([0.5])
    for given in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="expected"):
            wilson(*given)
    with pytest.raises(ValueError, match="expected"):
        share([])
