"""Bootstrap intervals against a slow loop, a known distribution and the degenerate cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mixrag.evaluation import Interval, bootstrap, paired_difference
from mixrag.evaluation.bootstrap import _means


def test_the_interval_is_that_of_a_loop_over_resamples() -> None:
    values = [0.0, 1.0, 1.0, 0.5, 3.0]
    found = bootstrap(values, resamples=200, seed=3)
    source = np.random.default_rng(3)
    means = sorted(
        sum(values[i] for i in row) / len(values) for row in source.integers(len(values), size=(200, len(values)))
    )
    assert found.mean == pytest.approx(1.1)
    assert (found.low, found.high) == pytest.approx((means[4], means[195]))
    low, high = np.quantile(means, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1)


def test_shares_get_the_interval_of_the_binomial_distribution() -> None:
    found = bootstrap([1.0] * 300 + [0.0] * 700, resamples=4000)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.003)
    narrow = bootstrap([1.0] * 300 + [0.0] * 700, resamples=4000, level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.6745 * half / 1.96, abs=0.003)


def test_drawing_in_parts_covers_all_resamples() -> None:
    means = _means(np.arange(1.0, 8.0), 101, np.random.default_rng(0), at_once=20)
    assert len(means) == 101 and bool(((means >= 1) & (means <= 7)).all())
    assert len(set(means.tolist())) > 20


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    values = np.random.default_rng(0).normal(size=50).tolist()
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_one_value_is_its_own_interval() -> None:
    assert bootstrap([0.25]) == Interval(0.25, 0.25, 0.25, 1)


def test_an_infinite_value_shows_and_makes_nothing_nan() -> None:
    found = bootstrap([1.0] * 30 + [math.inf])
    assert found.mean == math.inf and found.low == 1.0 and found.high == math.inf


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_nothing_to_average_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="one number or more"):
        bootstrap(values)


@pytest.mark.parametrize("options", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_options_outside_their_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="found"):
        bootstrap([1.0, 2.0], **options)


def test_a_paired_difference_knows_that_the_questions_are_the_same() -> None:
    easy = np.random.default_rng(0).normal(scale=10, size=60)
    found = paired_difference((easy + 1.0).tolist(), easy.tolist())
    assert (found.mean, found.low, found.high, found.n) == (
        pytest.approx(1),
        pytest.approx(1),
        pytest.approx(1),
        60,
    )
    assert paired_difference([1.0, math.inf], [0.0, math.inf]).mean == 0.5
    assert paired_difference([0.0, 1.0], [2.0, 1.0]).mean == -1.0
    with pytest.raises(ValueError, match="found 1 and 2"):
        paired_difference([1.0], [1.0, 2.0])


def test_an_interval_is_shown_as_its_mean_and_its_ends_in_brackets() -> None:
    assert f"{Interval(0.25, -0.5, 1.0, 4):.2f}" == "0.25 [-0.50, 1.00]"
    assert f"{Interval(0.25, -0.5, 1.0, 4):+.1f}" == "+0.2 [-0.5, +1.0]"
