"""Bounds on what was not looked at, against the sums themselves."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixrag.probability import log_cluster_bounds, log_hybrid_bounds, mass_outside


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 3.0), st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_the_sum_over_all_clusters_lies_between_its_bounds(
    seed: int, temperature: float, sizes: list[int]
) -> None:
    random = torch.Generator().manual_seed(seed)
    clusters = [torch.randn(n, 4, generator=random, dtype=torch.float64) for n in sizes]
    question = torch.randn(4, generator=random, dtype=torch.float64)
    means = torch.stack([cluster.sum(0) / max(1, len(cluster)) for cluster in clusters])
    centres = means + 0.1 * torch.randn(len(clusters), 4, generator=random, dtype=torch.float64)
    reach = torch.tensor(
        [max([0.0, *(each - c).norm(dim=1).tolist()]) for each, c in zip(clusters, centres, strict=True)]
    )
    asked = question / temperature
    low, high = log_cluster_bounds(
        torch.tensor(sizes), means @ asked, centres @ asked, asked.norm() * reach
    ).tolist()
    logits = torch.cat(clusters) @ asked
    if len(logits) == 0:
        assert low == high == -math.inf
        return
    value = float(logits.logsumexp(0))
    assert low <= value + 1e-9 and value <= high + 1e-9


def test_both_bounds_are_attained() -> None:
    """By passages that are all the same; and from above by one that lies in the direction of the question."""
    low, high = log_cluster_bounds(
        torch.tensor([3]), torch.tensor([0.7]), torch.tensor([0.7]), torch.tensor([0.0])
    ).tolist()
    assert low == high == pytest.approx(math.log(3 * math.exp(0.7)))
    _, high = log_cluster_bounds(
        torch.tensor([1]), torch.tensor([0.9]), torch.tensor([0.2]), torch.tensor([0.7])
    ).tolist()
    assert high == pytest.approx(0.9)


@pytest.mark.parametrize("log_null", [-math.inf, 0.3, 900.0])
def test_the_mass_outside_is_what_is_left(log_null: float) -> None:
    kept, total = math.log(2.0), math.log(5.0)
    null = min(log_null, 700.0)
    expected = (5.0 - 2.0) / (5.0 + math.exp(null))
    assert float(mass_outside(kept, total, log_null)) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert float(mass_outside(total, kept)) == 0.0, "rounding cannot make it negative"
    assert float(mass_outside(kept, total + 1.0, log_null)) >= float(mass_outside(kept, total, log_null))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.0, 5.0))
def test_the_hybrid_sum_lies_between_its_bounds(seed: int, scored: int, largest: float) -> None:
    """Of passages that were not scored only the dense sum, and the most that BM25 adds to each, are known."""
    random = torch.Generator().manual_seed(seed)
    dense = torch.randn(12, generator=random, dtype=torch.float64)
    words = 3 * largest * torch.rand(12, generator=random, dtype=torch.float64)
    words[scored:] = words[scored:].clamp(max=largest)
    value, total = float((dense + words).logsumexp(0)), float(dense.logsumexp(0))
    for slack in (0.0, 0.3):
        low, high = log_hybrid_bounds(
            torch.tensor([total - slack, total + slack], dtype=torch.float64),
            dense[:scored].logsumexp(0),
            (dense + words)[:scored].logsumexp(0),
            largest,
        ).tolist()
        assert low <= value + 1e-9 and value <= high + 1e-9
    if scored < 12:
        assert high > low
