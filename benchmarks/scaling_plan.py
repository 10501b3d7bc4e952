"""What a deployment of N passages needs: bytes, machines, hours of encoding, latency and cost of questions.

    python benchmarks/scaling_plan.py [--measured benchmarks/scale.json] [--sizes 10000,1000000,…]
        [--words 100] [--backend sqlite] [--shard 10000000] [--core-hour 0.04] [--gpu-hour 3.0] [--gb-month 0.08]

Three kinds of figures, and each table says which it has:

- measured: rows of ``scale.json``, written by ``scale.py``, and the constants below, each with its command;
- arithmetic: products and sums of these, and of what is stated of hardware that was not at hand;
- simulated: the slowest of S shards, whose times are drawn from a log-normal distribution with the measured median
  and 95th percentile, 20,000 times. Shards are taken to be independent.

Prices are parameters, not quotations.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scale import Measured

STORES = ("sqlite", "lance", "postgres")
SIZES = "10000,1000000,21000000,1000000000"
DRAWS, SEED = 20_000, 0
NORMAL_95 = 1.6449
HOURS, MONTH = 3600.0, 730.0

ENCODED = 254.0
"""Passages of 98 tokens a second on two cores in bfloat16: ``benchmarks/encoding.py --only encoding``."""
ENCODER_FLOP = 2.1e9
"""Of such a passage, arithmetic there."""
GPU_FLOPS, GPU_SHARE = 9.9e14, 0.2
"""Dense bfloat16 products of an H100 or H200 as its maker states them, and the share taken for an encoder."""
GPU_BYTES = 3.35e12
"""Bytes a second of an H100's memory as its maker states them."""
QUESTION_MS = 15.0
"""Encoding a question alone: ``benchmarks/encoding.py``."""
ANSWER_S = 1.26
"""An answer by both packaged readers on two cores: ``benchmarks/answering.py``."""
NETWORK_MS = (0.5, 2.0)
"""Assumed: median and 95th percentile of a request in one data centre."""
EXACT_GB_S = 24.0
"""Vectors that an exact scan reads in a second on one core: ``benchmarks/index.py``."""


@dataclass(frozen=True)
class Model:
    """A language model on one GPU."""

    name: str
    weights: float
    read: int
    """Tokens read for a question: k passages with their prompts."""
    written: int
    """Tokens of an answer."""
    together: int
    """Rows of a decoding step, of all questions that are answered at once."""
    k: int = 5

    @property
    def seconds(self) -> float:
        """Of a GPU, a question: reading is bound by products, a step by the weights, shared by its rows."""
        reading = 2 * self.weights * self.read / (0.4 * GPU_FLOPS)
        step = 2 * self.weights / GPU_BYTES
        return reading + self.written * step * self.k / self.together


MODELS = (
    Model("0.4 billion weights", 0.36e9, 5 * 250, 12, 160),
    Model("7 billion weights", 7e9, 5 * 250, 40, 160),
    Model("32 billion weights, 8 bits", 32e9, 5 * 250, 40, 160),
)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=Path(__file__).parent / "scale.json")
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--words", type=int, default=100)
    parser.add_argument("--backend", choices=STORES, default="sqlite")
    parser.add_argument("--shard", type=int, default=10_000_000, help="passages of a shard")
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--gpu-hour", type=float, default=3.0)
    parser.add_argument("--gb-month", type=float, default=0.08)
    options = parser.parse_args()
    rows = [Measured(**each) for each in json.loads(options.measured.read_text())]
    sizes = [int(each) for each in options.sizes.split(",")]
    for title, lines in (
        ("Bytes (measured; arithmetic for other sizes)", bytes_table(rows, sizes, options.words)),
        ("Encoding (arithmetic)", encoding_table(sizes)),
        ("Machines and memory (arithmetic)", machines_table(rows, sizes, options)),
        ("Search over shards (simulated)", latency_table(rows, sizes, options)),
        ("A million questions (arithmetic)", cost_table(rows, sizes, options)),
    ):
        print(f"\n### {title}\n")
        print(*lines, sep="\n", flush=True)


def table(heads: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]


def of_passage(rows: Sequence[Measured], backend: str, words: int) -> float:
    """Bytes of a passage in a store, by the line through the measured numbers of words, at 100,000 passages.

    Raises:
        SystemExit: the backend was not measured with two numbers of words at that size.
    """
    found = {row.words: row.megabytes * 1e6 / row.passages for row in rows if row.engine == backend}
    at = {row.words: row.megabytes * 10 for row in rows if (row.engine, row.passages) == (backend, 100_000)}
    if len(at) < 2:
        raise SystemExit(f"expected {backend} with two numbers of words; found {sorted(found)}; run scale.py")
    low, high = min(at), max(at)
    slope = (at[high] - at[low]) / (high - low)
    return at[low] + slope * (words - low)


def bytes_table(rows: Sequence[Measured], sizes: Sequence[int], words: int) -> list[str]:
    """Of each store."""
    each = {backend: of_passage(rows, backend, words) for backend in STORES}
    heads = ["passages", "vectors alone", *(f"{name} ({size:,.0f} bytes each)" for name, size in each.items())]
    return table(heads, ([f"{n:,}", shown(n * 1536), *(shown(n * size) for size in each.values())] for n in sizes))


def encoding_table(sizes: Sequence[int]) -> list[str]:
    """Hours by machine."""
    gpu = GPU_SHARE * GPU_FLOPS / ENCODER_FLOP
    heads = ["passages", f"2 cores, {ENCODED:.0f}/s", "64 cores", f"one GPU, {gpu:,.0f}/s", "8 GPUs"]
    rates = (ENCODED, 32 * ENCODED, gpu, 8 * gpu)
    return table(heads, ([f"{n:,}", *(duration(n / rate) for rate in rates)] for n in sizes))


def machines_table(rows: Sequence[Measured], sizes: Sequence[int], options: argparse.Namespace) -> list[str]:
    """Shards, and what each needs."""
    size = of_passage(rows, options.backend, options.words)
    heads = [
        "passages",
        "shards",
        "disk of each",
        "memory that a search reads",
        "for an exact scan",
        "exact scan, s",
    ]
    cells = []
    for n in sizes:
        each = min(n, options.shard)
        exact = 1536 * each
        cells.append(
            [
                f"{n:,}",
                f"{shards(n, options.shard):,}",
                shown(size * each),
                shown(each * (162 + 6 * 0.8 * options.words)),
                shown(exact),
                f"{exact / 1e9 / EXACT_GB_S:.2g}",
            ]
        )
    return table(heads, cells)


def latency_table(rows: Sequence[Measured], sizes: Sequence[int], options: argparse.Namespace) -> list[str]:
    """Milliseconds by part."""
    heads = [
        "passages",
        "shards",
        "encode",
        "search, p50",
        "search, p95",
        "slowest shard, p50",
        "slowest shard, p95",
    ]
    cells = []
    for n in sizes:
        row = nearest(rows, options.backend, min(n, options.shard))
        slowest = slowest_of(shards(n, options.shard), (row.p50, row.p95))
        timed = (QUESTION_MS, row.p50, row.p95, *slowest)
        cells.append([f"{n:,}", f"{shards(n, options.shard):,}", *(f"{each:,.1f}" for each in timed)])
    return table(heads, cells)


def cost_table(rows: Sequence[Measured], sizes: Sequence[int], options: argparse.Namespace) -> list[str]:
    """Of searching and of answering; storage stands by itself."""
    heads = ["passages", "store, a month", "search", "answers, packaged readers on cores"]
    heads += [f"answers, {model.name}" for model in MODELS]
    size = of_passage(rows, options.backend, options.words)
    answers = 1e6 * ANSWER_S * 2 / HOURS * options.core_hour
    models = [1e6 * model.seconds / HOURS * options.gpu_hour for model in MODELS]
    cells = []
    for n in sizes:
        row = nearest(rows, options.backend, min(n, options.shard))
        cores = 1e6 * shards(n, options.shard) * row.p50 / 1000 / HOURS * options.core_hour
        amounts = (n * size / 1e9 * options.gb_month, cores, answers, *models)
        cells.append([f"{n:,}", *(f"${amount:,.2f}" for amount in amounts)])
    return table(heads, cells)


def nearest(rows: Sequence[Measured], backend: str, passages: int) -> Measured:
    """The measured row whose size is next to that of a shard, larger if there is one."""
    of = sorted((row for row in rows if row.engine == backend), key=lambda row: row.passages)
    return next((row for row in of if row.passages >= passages), of[-1])


def shards(passages: int, each: int) -> int:
    """How many."""
    return math.ceil(passages / each)


def slowest_of(count: int, times: tuple[float, float]) -> tuple[float, float]:
    """Median and 95th percentile of the slowest of so many shards and their requests, simulated."""
    drawn = np.random.default_rng(SEED)
    worst = np.zeros(DRAWS)
    for _ in range(count):
        one = log_normal(drawn, times)
        worst = np.maximum(worst, one if count == 1 else one + log_normal(drawn, NETWORK_MS))
    return float(np.median(worst)), float(np.percentile(worst, 95))


def log_normal(drawn: np.random.Generator, times: tuple[float, float]) -> np.ndarray:
    """(DRAWS,) with this median and 95th percentile."""
    median, high = times
    return drawn.lognormal(math.log(median), math.log(high / median) / NORMAL_95, DRAWS)


def shown(size: float) -> str:
    """Bytes as people write them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:,.3g} {unit}"
        size /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """In the largest unit of which there is one."""
    for unit, length in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:,.3g} {unit}"
    return f"{seconds:.2g} s"


if __name__ == "__main__":
    main()
