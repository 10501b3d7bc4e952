"""The arithmetic and the simulation behind docs/scaling.md (benchmarks/scaling_plan.py)."""

from __future__ import annotations

import numpy as np
import pytest

from scale import Measured
from scaling_plan import ASKER_MS, exact_scan, nearest, of_passage, slowest_of


def row(engine: str = "sqlite", passages: int = 100_000, words: int = 30, **fields: float) -> Measured:
    values = {"megabytes": 400.0, "p50": 3.0, "p95": 4.0, "hybrid": 6.0, **fields}
    return Measured(engine, passages, 1.0, 1.0, peak=1.0, recall=1.0, words=words, **values)  # type: ignore[arg-type]


def test_bytes_of_a_passage_lie_on_the_line_through_two_measured_numbers_of_words() -> None:
    rows = [row(megabytes=400.0), row(words=100, megabytes=540.0), row(passages=1000, words=60, megabytes=1.0)]
    assert of_passage(rows, "sqlite", 30) == pytest.approx(4000.0)
    assert of_passage(rows, "sqlite", 65) == pytest.approx(4700.0)
    larger = row(passages=1_000_000, megabytes=3000.0)
    assert of_passage([*rows, larger], "sqlite", 65) == pytest.approx(3700.0), "its files of fixed size count less"
    with pytest.raises(SystemExit, match="found \\[30\\]; run"):
        of_passage(rows[:1], "sqlite", 100)


def test_a_shard_has_the_times_of_the_store_whose_size_is_closest() -> None:
    small, large, wordy = row(passages=10_000), row(passages=1_000_000), row(passages=1_000_000, words=100)
    rows = [small, large, wordy, row("lance", 400_000)]
    assert nearest(rows, "sqlite", 400_000, 100) is wordy and nearest(rows, "sqlite", 400_000, 40) is large
    assert nearest(rows, "sqlite", 50_000, 30) is small and nearest(rows, "sqlite", 10**9, 30) is large


def test_the_slowest_of_independent_shards() -> None:
    """Its median is where the distribution function of one, to the power S, is one half."""
    alone = slowest_of(1, (3.0, 6.0), 1)
    assert alone == pytest.approx((3.0, 6.0), rel=0.03)
    many, _ = slowest_of(50, (3.0, 6.0), 1)
    quantile = np.log(3.0) + 2.204 * np.log(2.0) / 1.6449  # Φ(2.204) = 0.5 ** (1 / 50)
    assert np.exp(quantile) + 50 * ASKER_MS < many < np.exp(quantile) + 50 * ASKER_MS + 3.0, "and the network"
    assert slowest_of(50, (3.0, 6.0), 2)[0] > many + 50 * ASKER_MS


def test_an_exact_scan_is_measured() -> None:
    rows = [row("sqlite-exact", 10_000, p50=5.0), row("sqlite-exact", 100_000, p50=30.0)]
    assert exact_scan(rows) == pytest.approx(3e-7)
    with pytest.raises(SystemExit, match="expected a row of sqlite-exact"):
        exact_scan([row()])
