"""From what was measured on one machine to a plan: bytes, machines, latency and cost at four sizes of corpus.

    python benchmarks/scaling_plan.py [--dimension 384] [--words 100] [--shard 10000000] [--embedded 100]
        [--p50 10] [--p95 25] [--answer 1.0] [--price 0.10]

Prints the tables of docs/scaling.md. Bytes are arithmetic, from the layout of the files. Latency over shards is
simulated: a question waits for the slowest of S shards, whose latencies are drawn from one measured distribution;
drawn ones are called so. Prices are assumptions, named in the table, and can be given.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from mixrag.retrieval.index.ivf import clusters_for

SIZES = (10_000, 1_000_000, 21_000_000, 1_000_000_000)
CHARACTERS = 6.2
"""Bytes of text for each word, space included."""
ROW = 130
"""Bytes of a passage's row without text, vector and words: hashes and their two indexes, offsets, page growth."""
POSTING = 5
"""Bytes of the lexical index for each word of a passage: number of the passage and count."""


@dataclass(frozen=True)
class Bytes:
    """Of one passage."""

    store: float
    index: float
    """Vectors in the order of the index, on disk, mapped."""
    memory: float
    """Codes and row ids that a search reads."""
    lexical: float

    @classmethod
    def of(cls, dimension: int, words: int) -> Bytes:
        """By the layout of the files (corpus/store/sqlite, retrieval/index, retrieval/lexical)."""
        vector = 4 * dimension
        return cls(
            store=vector + words * (CHARACTERS + 4) + ROW,
            index=vector,
            memory=dimension / 4 + 8 + 4 + 8,  # four-bit codes of two numbers, row, cell, mark
            lexical=words * POSTING,
        )

    @property
    def disk(self) -> float:
        """All of it."""
        return self.store + self.index + self.memory + self.lexical


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--words", type=int, default=100, help="of a passage")
    parser.add_argument("--shard", type=int, default=10_000_000, help="passages of one shard at most")
    parser.add_argument("--embedded", type=float, default=100.0, help="passages embedded a second by one machine")
    parser.add_argument("--p50", type=float, default=10.0, help="measured milliseconds of one shard's search")
    parser.add_argument("--p95", type=float, default=25.0)
    parser.add_argument("--answer", type=float, default=1.0, help="machine seconds that reading takes a question")
    parser.add_argument("--price", type=float, default=0.10, help="of a machine for an hour, in any currency")
    options = parser.parse_args()
    each = Bytes.of(options.dimension, options.words)
    print(f"bytes of a passage: store {each.store:.0f}, index {each.index:.0f} on disk and {each.memory:.0f} in")
    print(f"memory, words {each.lexical:.0f}")
    head = ("passages", "shards", "disk", "memory", "cells of a shard", "machine hours to embed", "search p50, ms")
    columns = (*head, "p95, ms", "a million questions, machine hours", "price")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for passages in SIZES:
        shards = math.ceil(passages / options.shard)
        p50, p95 = slowest(shards, options.p50, options.p95)
        hours = 1e6 * options.answer / 3600
        searching = 1e6 * shards * options.p50 / 1000 / 3600
        cells = (
            f"{passages:,}",
            f"{shards}",
            size(passages * each.disk),
            size(passages * each.memory),
            f"{clusters_for(passages // shards):,}",
            f"{passages / options.embedded / 3600:,.1f}",
            f"{p50:.0f}",
            f"{p95:.0f}",
            f"{hours:,.0f} + {searching:,.0f}",
            f"{(hours + searching) * options.price:,.0f}",
        )
        print(f"| {' | '.join(cells)} |")


def slowest(shards: int, p50: float, p95: float, drawn: int = 20_000) -> tuple[float, float]:
    """Median and 95th percentile of the slowest of S independent log-normal latencies with these two percentiles.

    Simulated: shards on machines of their own, nothing shared but the question.
    """
    sigma = math.log(p95 / p50) / 1.6449
    times = p50 * np.exp(sigma * np.random.default_rng(0).standard_normal((drawn, shards)).max(axis=1))
    return float(np.median(times)), float(np.percentile(times, 95))


def size(count: float) -> str:
    """In decimal units."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


if __name__ == "__main__":
    main()
