"""Top ten of up to a million synthetic vectors (vectors.py): ours beside FAISS flat, and beside usearch's HNSW.

    python benchmarks/index.py [--sizes 10000,...] [--folder DIR] [--usearch 200000]

Builds, measures recall against the exact ten, the bounds on the mass outside and the time of single searches, one
after the other, and draws the curve over the size of the corpus. ``--folder`` keeps vectors and indexes for later.
usearch is no dependency: where it is not installed, its row is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from mixrag.retrieval.index import (
    FLAT_LIMIT,
    CompleteIndex,
    ExactIndex,
    IVFIndex,
    VectorSource,
    open_persistent,
)
from mixrag.utils.arrays import Vectors
from side_by_side import Row, alternately, keep, seconds, show
from vectors import World

DIMENSION = 384
QUESTIONS, K = 500, 10
TEMPERATURE = 0.045
ROUNDS, SEARCHES = 9, 50
PICTURE = Path(__file__).parents[1] / "docs" / "measurements" / "pictures" / "search.svg"


@dataclass(frozen=True)
class Point:
    """One size of the corpus."""

    passages: int
    kind: str
    ours: float
    """Median seconds of one search."""
    flat: float
    recall: float
    """Share of the exact ten that is found."""
    calibrated: float
    """What the index says of its recall."""
    probes: int
    in_memory: int
    """Bytes that the index holds in memory; of an exact one, its vectors."""
    build: float
    """Seconds."""
    outside: float
    """Median prior mass outside the ten, exact."""
    low: float
    """Median of its lower bound."""
    high: float


@dataclass(frozen=True)
class Data:
    """Passages and questions, with the exact ten of each and its log normaliser."""

    vectors: Vectors
    questions: Vectors
    best: npt.NDArray[np.int64]
    log_z: npt.NDArray[np.float64]


def data(folder: Path, passages: int) -> Data:
    """Made once for each size."""
    path, known = folder / f"passages-{passages}.f32", folder / f"questions-{passages}.npz"
    if not known.exists():
        world = World.of(passages)
        topics = []
        with path.open("wb") as stream:
            for block, of in world.passages(passages):
                stream.write(block.data)
                topics.append(of)
        vectors = _mapped(path)
        asked = np.random.default_rng(1).choice(passages, QUESTIONS, replace=False)
        questions = world.questions(vectors[asked], np.concatenate(topics)[asked])
        flat = faiss.IndexFlatIP(DIMENSION)
        flat.add(vectors)
        np.savez(known, questions=questions, best=flat.search(questions, K)[1], log_z=_log_z(vectors, questions))
    with np.load(known) as found:
        return Data(_mapped(path), found["questions"], found["best"], found["log_z"])


def _mapped(path: Path) -> Vectors:
    return np.memmap(path, np.float32, "r").reshape(-1, DIMENSION).view(np.ndarray)


def _log_z(vectors: Vectors, questions: Vectors) -> npt.NDArray[np.float64]:
    total = np.full(len(questions), -np.inf)
    for start in range(0, len(vectors), 50_000):
        logits = (vectors[start : start + 50_000] @ questions.T).astype(np.float64) / TEMPERATURE
        total = np.logaddexp(total, np.logaddexp.reduce(logits, axis=0))
    return total


def ours(folder: Path, found: Data) -> tuple[CompleteIndex, float, int]:
    """The index that mixrag takes for so many passages, the seconds to build it, and what it holds in memory."""
    rows = np.arange(len(found.vectors))
    if len(rows) <= FLAT_LIMIT:
        start = time.perf_counter()
        return ExactIndex(rows, np.array(found.vectors)), time.perf_counter() - start, found.vectors.nbytes
    home = folder / str(len(rows))
    home.mkdir(exist_ok=True)
    marks = np.zeros(len(rows), np.uint64)
    start = time.perf_counter()
    corpus = VectorSource(
        "benchmark",
        "synthetic",
        lambda: (rows, marks),
        lambda some: found.vectors[some],
    )
    index = open_persistent(home, corpus)
    spent = time.perf_counter() - start
    noted = home / "seconds.json"
    if not noted.exists():
        noted.write_text(json.dumps(spent))
    return index, float(json.loads(noted.read_text())), _bytes_in_memory(home)


def _bytes_in_memory(home: Path) -> int:
    files = [*home.glob("index/codes-*"), *home.glob("index/cells-*")]
    return sum(each.stat().st_size for each in files)


def measured(folder: Path, passages: int) -> tuple[Point, Row]:
    """One size: recall, bounds, and times beside FAISS flat."""
    found = data(folder, passages)
    index, build, in_memory = ours(folder, found)
    recall = share_found(index, found)
    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(found.vectors)
    kind = "exact" if isinstance(index, ExactIndex) else "ivf"
    row = alternately(
        "6 index",
        f"top {K} of {passages:,} x {DIMENSION}, beside FAISS flat; recall {recall:.2f}",
        ">= 50" if passages == 1_000_000 else "",
        searches(lambda question: index.search(question, K), found.questions),
        searches(lambda question: flat.search(question[None], K), found.questions),
        ROUNDS,
    )
    refined = index if isinstance(index, IVFIndex) else None
    outside, low, high = outsides(index, found)
    point = Point(
        passages,
        kind,
        row.ours,
        row.peer,
        recall,
        1.0 if refined is None else refined.recall,
        0 if refined is None else refined.probes,
        in_memory,
        build,
        outside,
        low,
        high,
    )
    return point, row


def share_found(index: CompleteIndex, found: Data) -> float:
    """Recall at ten over all questions."""
    pairs = zip(found.questions, found.best, strict=True)
    return float(np.mean([np.isin(best, index.search(question, K).rows).mean() for question, best in pairs]))


def outsides(index: CompleteIndex, found: Data) -> tuple[float, float, float]:
    """Medians of the mass outside the ten found, exact and bounded; the bounds must hold for each."""
    table = []
    for question, log_z in zip(found.questions, found.log_z, strict=True):
        top = np.logaddexp.reduce(index.search(question, K).inner_products.astype(np.float64) / TEMPERATURE)
        bounds = index.log_normaliser_bounds(question, TEMPERATURE)
        assert bounds is not None
        low, high = bounds
        assert low <= log_z + 1e-4 and log_z <= high + 1e-4, "the bounds do not hold"
        table.append([1 - math.exp(top - each) for each in (log_z, low, high)])
    exact, below, above = np.median(table, axis=0).tolist()
    return exact, below, above


def searches(search: Any, questions: Vectors) -> Any:
    """A function that gives the seconds of one search, over the next questions."""
    asked = cycle(questions)
    return lambda: seconds(lambda: [search(next(asked)) for _ in range(SEARCHES)]) / SEARCHES


def beside_usearch(folder: Path, passages: int) -> Row | None:
    """Ours beside usearch's HNSW over eight-bit vectors, with as much search as it needs for our recall."""
    try:
        from usearch.index import Index as Graph
    except ImportError:
        print("usearch is not installed: its row is left out")
        return None
    found = data(folder, passages)
    index, _, in_memory = ours(folder, found)
    graph = Graph(ndim=DIMENSION, metric="cos", dtype="i8")
    path = folder / f"usearch-{passages}"
    if path.exists():
        graph.load(str(path))
    else:
        spent = seconds(
            lambda: graph.add(np.arange(passages), np.array(found.vectors), threads=os.cpu_count() or 1)
        )
        print(f"usearch built in {spent:.0f} s")
        graph.save(str(path))
    recall, other = share_found(index, found), 0.0
    for wide in (32, 64, 128, 256, 512):
        graph.expansion_search = wide
        pairs = zip(found.questions, found.best, strict=True)
        other = float(np.mean([np.isin(best, graph.search(each, K).keys).mean() for each, best in pairs]))
        if other >= min(recall, 0.95):
            break
    print(
        f"usearch: recall {other:.3f}, expansion {graph.expansion_search}, {graph.memory_usage / 1e6:.0f} MB;"
        f" ours: recall {recall:.3f}, {in_memory / 1e6:.0f} MB and {found.vectors.nbytes / 1e6:.0f} MB mapped"
    )
    return alternately(
        "6 index",
        f"top {K} of {passages:,} x {DIMENSION}, beside usearch i8 HNSW (recall {other:.2f}); recall {recall:.2f}",
        ">= 1",
        searches(lambda question: index.search(question, K), found.questions),
        searches(lambda question: graph.search(question, K), found.questions),
        ROUNDS,
    )


def in_half_precision(found: Data) -> None:
    """What a scan of 16-bit vectors would save an exact search, and what it would leave unknown."""
    import torch

    single = np.array(found.vectors)
    half, asked = torch.from_numpy(single).half(), torch.from_numpy(found.questions).half()
    places = cycle(range(len(asked)))
    times = [
        np.median([seconds(lambda: single @ found.questions[next(places)]) for _ in range(200)]),
        np.median([seconds(lambda: half @ asked[next(places)]) for _ in range(200)]),
    ]
    error = max(
        float(np.abs(single @ question - (half @ short).float().numpy()).max())
        for question, short in zip(found.questions[:50], asked, strict=False)
    )
    print(
        f"{len(single):,} products: float32 {1e3 * times[0]:.2f} ms, float16 {1e3 * times[1]:.2f} ms,"
        f" largest error {error:.1e}, over a temperature of {TEMPERATURE} {error / TEMPERATURE:.3f}"
    )


def table(points: list[Point]) -> None:
    """The curve as Markdown."""
    print(
        "| passages | index | ours, ms | flat, ms | recall | calibrated | clusters visited | MB in memory |"
        " build, s |"
    )
    print(f"|{' --- |' * 9}")
    for each in points:
        print(
            f"| {each.passages:,} | {each.kind} | {1e3 * each.ours:.2f} | {1e3 * each.flat:.2f} |"
            f" {each.recall:.3f} | {each.calibrated:.3f} | {each.probes} |"
            f" {each.in_memory / 1e6:.0f} | {each.build:.0f} |"
        )
    print("| passages | mass outside the ten | at least | at most |\n| --- | --- | --- | --- |")
    for each in points:
        print(f"| {each.passages:,} | {each.outside:.3f} | {each.low:.3f} | {each.high:.6f} |")


def draw(points: list[Point]) -> None:
    """Milliseconds and megabytes over the size of the corpus, both scales logarithmic."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    FigureCanvasSVG(figure)
    left, right = figure.subplots(1, 2)
    sizes = [each.passages for each in points]
    left.plot(sizes, [1e3 * each.flat for each in points], "s--", color="#888888", label="FAISS flat")
    left.plot(sizes, [1e3 * each.ours for each in points], "o-", color="#1f6feb", label="mixrag")
    right.plot(
        sizes, [each.passages * DIMENSION * 4e-6 for each in points], "s--", color="#888888", label="vectors"
    )
    right.plot(sizes, [each.in_memory / 1e6 for each in points], "o-", color="#1f6feb", label="mixrag, in memory")
    for axes, name in ((left, "milliseconds per search"), (right, "megabytes")):
        axes.set(xscale="log", yscale="log", xlabel="passages", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    for each in points:
        left.annotate(f"{each.recall:.2f}", (each.passages, 1e3 * each.ours), (0, -12), textcoords="offset points")
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    """All sizes, the picture, and usearch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,30000,100000,300000,1000000")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--usearch", type=int, default=200_000, help="passages beside usearch; 0: none")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        results = [measured(folder, int(size)) for size in chosen.sizes.split(",") if size]
        points, rows = [point for point, _ in results], [row for _, row in results]
        for size in (10_000, FLAT_LIMIT):
            in_half_precision(data(folder, size))
        peer = beside_usearch(folder, chosen.usearch) if chosen.usearch else None
    rows += [] if peer is None else [peer]
    show(rows)
    print()
    table(points)
    keep(rows)
    if len(points) > 1:
        draw(points)


if __name__ == "__main__":
    main()
