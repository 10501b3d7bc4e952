"""Batches are a function of the seed: every pair once an epoch, another order each time, like lengths together."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from mixrag.training.batches import WINDOW, epoch_batches, rate_factor, steps_in_epoch

CHANCE = random.Random(2)
LENGTHS = [CHANCE.randrange(1, 200) for _ in range(203)]


def padding(batches: list[list[int]], lengths: list[int]) -> int:
    return sum(max(lengths[i] for i in batch) - lengths[j] for batch in batches for j in batch)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 64, 65, 203])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_an_epoch_visits_every_pair_once(count: int, size: int) -> None:
    batches = epoch_batches(LENGTHS[:count], size, seed=4, epoch=1)
    assert sorted(i for batch in batches for i in batch) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert len(batches) == steps_in_epoch(count, size) and max(sizes) <= size
    assert sorted(sizes, reverse=True)[:-1] == [size] * (len(sizes) - 1)


def test_equal_arguments_give_equal_batches_and_other_epochs_and_seeds_others() -> None:
    first = epoch_batches(LENGTHS, 8, seed=0, epoch=0)
    assert first == epoch_batches(LENGTHS, 8, seed=0, epoch=0)
    others = [epoch_batches(LENGTHS, 8, seed, epoch) for seed, epoch in ((0, 1), (1, 0), (1, 1), (0, 10), (10, 0))]
    assert all(other != first for other in others)
    as_sets = [{frozenset(batch) for batch in batches} for batches in (first, *others)]
    assert all(len(one & as_sets[0]) < 3 for one in as_sets[1:])  # not merely the same batches in another order
    assert len({str(batches) for batches in others}) == len(others)


def test_the_state_of_the_random_module_does_not_matter_and_is_left_alone() -> None:
    random.seed(1)
    state, first = random.getstate(), epoch_batches(LENGTHS, 8, 0, 0)
    assert random.getstate() == state
    random.seed(2)
    assert epoch_batches(LENGTHS, 8, 0, 0) == first


def test_like_lengths_come_together_but_not_in_order_of_length() -> None:
    batches = epoch_batches(LENGTHS, 8, seed=0, epoch=0)
    order = list(range(len(LENGTHS)))
    random.Random(0).shuffle(order)
    plain = [order[i : i + 8] for i in range(0, len(order), 8)]
    assert padding(batches, LENGTHS) < 0.5 * padding(plain, LENGTHS)
    means = [sum(LENGTHS[i] for i in batch) / len(batch) for batch in batches]
    rises = sum(b > a for a, b in pairwise(means))
    assert 0.2 < rises / (len(means) - 1) < 0.8 and WINDOW > 1


def test_the_rate_rises_to_its_peak_and_falls_to_a_tenth() -> None:
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert factors[10] == pytest.approx(1.0) and max(factors) <= 1.0
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert rate_factor(55, 100, 0.1) == pytest.approx(0.55)  # half of the way down from 1 to 0.1
    assert factors[-1] == pytest.approx(0.1, abs=1e-3) and rate_factor(100, 100, 0.1) == pytest.approx(0.1)
    assert rate_factor(500, 100, 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 0.5), (1, 1.0), (2, 0.06), (5, 1.0), (5, 0.0)])
def test_short_runs_have_a_rate_at_every_step(total: int, warmup: float) -> None:
    factors = [rate_factor(step, total, warmup) for step in range(total)]
    assert all(0.1 <= factor <= 1.0 for factor in factors) and max(factors) == pytest.approx(1.0)
