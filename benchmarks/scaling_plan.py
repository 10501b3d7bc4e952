"""What a deployment of N passages needs: bytes, machines, hours of encoding, latency and cost of questions.

    python benchmarks/scaling_plan.py [--measured benchmarks/scale.json] [--sizes 10000,1000000,…]
        [--words 100] [--backend sqlite] [--shard 10000000] [--core-hour 0.04] [--gpu-hour 3.0] [--gb-month 0.08]

Three kinds of figures, and each table says which it has:

- measured: rows of ``scale.json`` (``scale.py --folder``), and constants with their command;
- arithmetic: products and sums of these, of what is stated of hardware that was not at hand, and of assumptions,
  which are called so below;
- simulated: the slowest of S shards, whose times are drawn from a log-normal distribution with the measured median
  and 95th percentile, 20,000 times. Shards are taken to be independent. With hybrid search each is asked twice,
  for the frequencies of words first. To it comes what the asking process does itself, for one request and reply
  after the other.

Prices are parameters, not quotations. A shard for whose size nothing was measured has the times of the store whose
size is closest, and its row says so.
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
"""The 95th percentile of a standard normal distribution."""
HOUR = 3600.0

ENCODED = 254.0
"""Passages of 98 tokens a second on two cores in bfloat16: ``benchmarks/encoding.py --only encoding``."""
ENCODER_FLOP = 2.1e9
"""Floating-point operations of such a passage: docs/measurements/benchmarks.md, "Encoding"."""
QUESTION_MS = 15.0
"""Assumed for encoding one question, of some ten tokens."""
ANSWERS = 0.63
"""Answers a second by both packaged readers on two cores, many at once: ``benchmarks/answering.py``."""
EXACT = "sqlite-exact"
"""Its largest measured row has the time of an exact scan, which grows in proportion."""
ASKER_MS = 3.0
"""Measured (http_shards.py): processor time of the asking process for each request to a shard and its reply."""
REQUESTS_HYBRID = 2
"""To each shard: word frequencies, then the search; a dense search is one."""
MONTH = 730.0
"""Hours."""
CORES = 2
"""Assumed: of the machine of one shard."""
INDEX_BYTES, POSTING_BYTES, DISTINCT = 162, 6, 0.8
"""Of a passage in the index (``benchmarks/index.py``); of one word of a passage in the postings; and the share of
a passage's words that are different ones, assumed."""
NETWORK_MS = (0.5, 2.0)
"""Assumed: median and 95th percentile of a request in one data centre."""
GPU_FLOPS, GPU_BYTES = 9.9e14, 3.35e12
"""Dense floating-point operations in bfloat16 and bytes of memory a second, as the maker states for an H100."""
ENCODER_SHARE, READING_SHARE = 0.2, 0.4
"""Assumed: of these operations, what an encoder and what reading a prompt by a language model reach."""


@dataclass(frozen=True)
class Model:
    """A language model on one GPU; numbers of tokens and rows are assumptions."""

    name: str
    weights: float
    bytes_each: int
    kept: float
    """Bytes of keys and values of a token."""
    written: int
    """Tokens of an answer."""
    k: int = 5
    prompt: int = 250
    """Tokens of a passage with its question."""
    questions: int = 32
    """That are answered at once."""

    @property
    def seconds(self) -> float:
        """Of a GPU, a question: reading is bound by operations, a step by weights, keys and values."""
        reading = 2 * self.weights * self.k * self.prompt / (READING_SHARE * GPU_FLOPS)
        row = self.kept * (self.prompt + self.written / 2)
        step = (self.weights * self.bytes_each / self.questions + self.k * row) / GPU_BYTES
        return reading + self.written * step


MODELS = (
    Model("0.4 billion weights", 0.36e9, 2, 41e3, 12),
    Model("7 billion weights", 7e9, 2, 131e3, 40),
    Model("32 billion weights in 8 bits", 32e9, 1, 262e3, 40),
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
    if not options.measured.exists():
        raise SystemExit(f"expected {options.measured}; found no such file; run scale.py --folder DIR first")
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
    """Bytes of a passage in the largest store that was measured; those of a further word from 100,000 passages.

    Raises:
        SystemExit: the backend was not measured with two numbers of words at that size.
    """
    at = {row.words: row.megabytes * 10 for row in rows if (row.engine, row.passages) == (backend, 100_000)}
    if len(at) < 2:
        raise SystemExit(
            f"expected {backend} at 100,000 passages with two numbers of words; found {sorted(at)};"
            f" run scale.py --sizes 100000 --engines {backend} with --words 30 and --words 100"
        )
    low, high = min(at), max(at)
    slope = (at[high] - at[low]) / (high - low)
    measured = [row for row in rows if row.engine == backend]
    largest = max(measured, key=lambda row: (row.passages, -abs(row.words - words)))
    return 1e6 * largest.megabytes / largest.passages + slope * (words - largest.words)


def is_measured(rows: Sequence[Measured], backend: str) -> bool:
    """With two numbers of words at 100,000 passages."""
    return len({row.words for row in rows if (row.engine, row.passages) == (backend, 100_000)}) > 1


def bytes_table(rows: Sequence[Measured], sizes: Sequence[int], words: int) -> list[str]:
    """Of each store that was measured."""
    each = {backend: of_passage(rows, backend, words) for backend in STORES if is_measured(rows, backend)}
    heads = ["passages", "vectors alone", *(f"{name} ({size:,.0f} bytes each)" for name, size in each.items())]
    return table(heads, ([f"{n:,}", shown(n * 1536), *(shown(n * size) for size in each.values())] for n in sizes))


def encoding_table(sizes: Sequence[int]) -> list[str]:
    """By machine, passages of 100 words; cores and GPUs are taken to add up."""
    gpu = ENCODER_SHARE * GPU_FLOPS / ENCODER_FLOP
    heads = ["passages", f"2 cores, {ENCODED:.0f}/s", "64 cores", f"one GPU, {gpu:,.0f}/s", "8 GPUs"]
    rates = (ENCODED, 32 * ENCODED, gpu, 8 * gpu)
    return table(heads, ([f"{n:,}", *(duration(n / rate) for rate in rates)] for n in sizes))


def machines_table(rows: Sequence[Measured], sizes: Sequence[int], options: argparse.Namespace) -> list[str]:
    """Shards, and what each needs."""
    size, scan = of_passage(rows, options.backend, options.words), exact_scan(rows)
    heads = [
        "passages",
        "shards",
        "disk of each",
        "index and postings",
        "vectors of an exact scan",
        "exact scan, s",
    ]
    heads += ["hybrid questions a second", "machines, a month"]
    cells = []
    for n in sizes:
        each = min(n, options.shard)
        exact, row = 1536 * each, nearest(rows, options.backend, each, options.words)
        hybrid = row.hybrid or row.p50
        cells.append(
            [
                f"{n:,}",
                f"{shards(n, options.shard):,}",
                shown(size * each),
                shown(each * (INDEX_BYTES + POSTING_BYTES * DISTINCT * options.words)),
                shown(exact),
                f"{scan * each:.2g}",
                f"{CORES * 1000 / hybrid:.0f}",
                f"${shards(n, options.shard) * CORES * options.core_hour * MONTH:,.0f}",
            ]
        )
    return table(heads, cells)


def exact_scan(rows: Sequence[Measured]) -> float:
    """Seconds a passage of a dense search with ``--index exact``.

    Raises:
        SystemExit: none was measured.
    """
    of = [row for row in rows if row.engine == EXACT]
    if not of:
        raise SystemExit(f"expected a row of {EXACT}; found none; run scale.py --engines {EXACT} --folder DIR")
    largest = max(of, key=lambda row: row.passages)
    return largest.p50 / 1000 / largest.passages


def latency_table(rows: Sequence[Measured], sizes: Sequence[int], options: argparse.Namespace) -> list[str]:
    """Milliseconds by part."""
    heads = ["passages", "shards", "measured at, words", "encode", "dense, p50", "p95", "hybrid, p50", "p95"]
    heads += ["over all shards, dense, p50", "p95", "over all shards, hybrid, p50", "p95"]
    cells = []
    for n in sizes:
        row = nearest(rows, options.backend, min(n, options.shard), options.words)
        count, hybrid = shards(n, options.shard), row.hybrid or math.nan
        # Where the median of hybrid queries alone was measured, they are taken to spread as dense ones do.
        high = row.hybrid_p95 or hybrid * row.p95 / row.p50
        dense = slowest_of(count, (row.p50, row.p95), 1)
        both = slowest_of(count, (hybrid, high), REQUESTS_HYBRID)
        timed = (QUESTION_MS, row.p50, row.p95, hybrid, high, *dense, *both)
        measured = f"{row.passages:,}, {row.words}"
        cells.append([f"{n:,}", f"{count:,}", measured, *(f"{each:,.1f}" for each in timed)])
    return table(heads, cells)


def cost_table(rows: Sequence[Measured], sizes: Sequence[int], options: argparse.Namespace) -> list[str]:
    """Of searching, a core for each search, and of answering; storage stands by itself."""
    heads = ["passages", "store, a month", "hybrid search", "answers, packaged readers on two cores"]
    heads += [f"answers, {model.name}" for model in MODELS]
    size = of_passage(rows, options.backend, options.words)
    answers = 1e6 / ANSWERS * 2 / HOUR * options.core_hour
    models = [1e6 * model.seconds / HOUR * options.gpu_hour for model in MODELS]
    cells = []
    for n in sizes:
        row = nearest(rows, options.backend, min(n, options.shard), options.words)
        count = shards(n, options.shard)
        asked = count * REQUESTS_HYBRID * ASKER_MS if count > 1 else 0.0
        searched = 1e6 * (count * (row.hybrid or row.p50) + asked) / 1000 / HOUR * options.core_hour
        amounts = (n * size / 1e9 * options.gb_month, searched, answers, *models)
        cells.append([f"{n:,}", *(f"${amount:,.2f}" for amount in amounts)])
    return table(heads, cells)


def nearest(rows: Sequence[Measured], backend: str, passages: int, words: int) -> Measured:
    """The measured store whose size is closest to a shard's, as a factor; of several its words to these."""
    of = [row for row in rows if row.engine == backend]
    return min(of, key=lambda row: (abs(math.log(row.passages / passages)), abs(row.words - words)))


def shards(passages: int, each: int) -> int:
    """How many."""
    return math.ceil(passages / each)


def slowest_of(count: int, times: tuple[float, float], requests: int) -> tuple[float, float]:
    """Median and 95th percentile of the slowest of so many shards and their requests, simulated."""
    drawn = np.random.default_rng(SEED)
    worst = np.zeros(DRAWS)
    for _ in range(count):
        one = log_normal(drawn, times)
        if count > 1:
            one += sum(log_normal(drawn, NETWORK_MS) for _ in range(requests))
        worst = np.maximum(worst, one)
    own = count * requests * ASKER_MS if count > 1 else 0.0
    return own + float(np.median(worst)), own + float(np.percentile(worst, 95))


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
