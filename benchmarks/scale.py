"""Writing, index and search at 10,000 to 10 million passages: mixrag's stores, and the engines below them alone.

    python benchmarks/scale.py [--sizes 10000,100000] [--folder DIR] [--words 30] [--questions 200]
        [--engines sqlite,sqlite-exact,lance,postgres,faiss-flat,faiss-ivf,lancedb,pgvector]

Passages have words (words.py) and vectors (vectors.py) of 384 dimensions, drawn in the place of encoding.
``sqlite``, ``lance`` and ``postgres`` are mixrag's stores, written by ``add_documents`` and asked for the ten
best of the dense prior and of the hybrid one; ``sqlite-exact`` with ``--index exact``. ``faiss-…``,
``lancedb`` and ``pgvector`` are the engines alone, with their own defaults but for what the code names.
Recall at ten is against exact products of all passages.
Every row runs in a process of its own, whose largest memory is measured. Rows are printed as they come and
written to ``scale.json`` in the folder; what is there already is not measured again. A store of mixrag whose
passages were all written by a run that ended later is not written again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.utils.arrays import Vectors
from scale_engines import ENGINES, STORES, Corpus, Found
from vectors import World
from words import ASKED, Vocabulary

DIMENSION, K, WARM = 384, 10, 20
SEED = 1
ROUNDING = 1e-6
FLAT_LIMIT = 1_000_000
"""More vectors are no longer searched by FAISS flat: they would fill the memory."""


@dataclass(frozen=True)
class Measured:
    """One engine at one size."""

    engine: str
    passages: int
    write: float
    """Seconds until all is written."""
    index: float
    """Seconds from there until the first dense search has been answered; where an index is made while passages are
    written, that is in ``write``."""
    megabytes: float
    """On disk, with index and postings, or of an engine in memory, there."""
    peak: float
    """GB, the largest resident memory of the process; of pgvector and postgres the server is not in it."""
    p50: float
    """Milliseconds of a dense search."""
    p95: float
    recall: float
    hybrid: float | None
    """Median milliseconds of a hybrid query."""
    words: int = 30
    """Of each passage."""
    hybrid_p95: float | None = None
    postings: float | None = None
    """Seconds of the first hybrid query, which makes the postings of all words."""


HEAD = (
    "| engine | passages | words | write, s | index, s | postings, s | MB | peak GB | p50 ms | p95 ms |"
    " recall@10 | hybrid p50 ms | p95 ms |"
)


def main() -> None:
    """Measure what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--engines", default=",".join([*STORES, *ENGINES]))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--words", type=int, default=30, help="of a passage")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "PASSAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        engine, passages = options.one
        found = measured(engine, int(passages), options.folder, options.words, options.questions)
        print(json.dumps(asdict(found)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{HEAD}\n|{' --- |' * 13}", flush=True)
        for passages in map(int, options.sizes.split(",")):
            for engine in options.engines.split(","):
                if engine != "faiss-flat" or passages <= FLAT_LIMIT:
                    print(line(once(engine, passages, folder, options)), flush=True)


def once(engine: str, passages: int, folder: Path, options: argparse.Namespace) -> Measured:
    """From the file of results, or measured by another process."""
    results = folder / "scale.json"
    known: list[dict[str, Any]] = json.loads(results.read_text()) if results.exists() else []
    for each in known:
        row = Measured(**each)
        if (row.engine, row.passages, row.words) == (engine, passages, options.words):
            return row
    command = [sys.executable, "-W", "ignore", __file__, "--one", engine, str(passages), "--folder", str(folder)]
    command += ["--words", str(options.words), "--questions", str(options.questions)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = Measured(**json.loads(output.strip().splitlines()[-1]))
    results.write_text(json.dumps([*known, asdict(found)], indent=1))
    return found


def line(found: Measured) -> str:
    """A row of the table."""
    hybrid, high = ("" if each is None else f"{each:.1f}" for each in (found.hybrid, found.hybrid_p95))
    postings = "" if found.postings is None else f"{found.postings:.0f}"
    sizes = f"{found.write:,.0f} | {found.index:,.0f} | {postings} | {found.megabytes:,.0f} | {found.peak:.1f}"
    times = f"{found.p50:.1f} | {found.p95:.1f} | {found.recall:.3f} | {hybrid} | {high}"
    return f"| {found.engine} | {found.passages:,} | {found.words} | {sizes} | {times} |"


def measured(engine: str, passages: int, folder: Path, words: int, questions: int) -> Measured:
    """Build in a folder, ask, and remove the folder."""
    home = folder / f"{engine}-{passages}-{words}"
    finished = home.with_suffix(".written")
    if engine not in STORES:
        finished.unlink(missing_ok=True)
    if not finished.exists():
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    os.environ["MIXRAG_CACHE"] = str(home / "cache")  # postings of a store that is elsewhere
    asked = made_questions(passages, questions + WARM)
    texts = list(Vocabulary.of(passages).texts(len(asked), ASKED, seed=SEED))
    corpus = Corpus(passages, words, partial(blocks, passages), dict(zip(texts, asked, strict=True)))
    with {**STORES, **ENGINES}[engine](home, corpus) as built:
        write = float(finished.read_text()) if finished.exists() else spent(built.write)
        finished.write_text(str(write))
        index = spent(lambda: built.search(texts[0], K))
        postings = None if built.hybrid is None else spent(partial(built.hybrid, texts[0], K))
        megabytes = built.megabytes()
        times, found = timed(built.search, texts)
        both = None if built.hybrid is None else timed(built.hybrid, texts)[0]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    recall = share_found(found, *exact(passages, asked[WARM:], folder))
    p50, p95 = middle_and_high(times)
    hybrid, high = (None, None) if both is None else middle_and_high(both)
    shutil.rmtree(home, ignore_errors=True)
    finished.unlink()
    return Measured(
        engine, passages, write, index, megabytes, peak, p50, p95, recall, hybrid, words, high, postings
    )


def timed(search: Callable[[str, int], Found], texts: Sequence[str]) -> tuple[list[float], list[Found]]:
    """Milliseconds of each question, after a few to warm up, and what was found."""
    for text in texts[:WARM]:
        search(text, K)
    times, found = [], []
    for text in texts[WARM:]:
        start = time.perf_counter()
        found.append(search(text, K))
        times.append(1000 * (time.perf_counter() - start))
    return times, found


def middle_and_high(times: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    return float(np.median(times)), float(np.percentile(times, 95))


def spent(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def blocks(passages: int) -> Iterator[Vectors]:
    """The vectors of all passages, the same at every call."""
    return (block for block, _ in World.of(passages, DIMENSION).passages(passages))


def made_questions(passages: int, count: int) -> Vectors:
    """(B, D), each near one of the first passages."""
    world = World.of(passages, DIMENSION)
    near, topics = next(world.passages(passages))
    chosen = np.random.default_rng(SEED).choice(len(near), count, replace=False)
    return world.questions(near[chosen], topics[chosen])


def exact(passages: int, questions: Vectors, folder: Path) -> tuple[npt.NDArray[np.int64], Vectors]:
    """Numbers (B, K) of the passages with the largest inner products, and these (B, K)."""
    import faiss

    path = folder / f"best-{passages}-{len(questions)}.npz"
    if not path.exists():
        heap, start = faiss.ResultHeap(len(questions), K, keep_max=True), 0
        for block in blocks(passages):
            products, lines = faiss.knn(questions, np.ascontiguousarray(block), K, faiss.METRIC_INNER_PRODUCT)
            heap.add_result(products, lines + start)
            start += len(block)
        heap.finalize()
        np.savez(path, numbers=heap.I, products=heap.D)
    with np.load(path) as known:
        return known["numbers"], known["products"]


def share_found(found: Sequence[Found], numbers: npt.NDArray[np.int64], products: Vectors) -> float:
    """Recall at ten; where inner products were found, those that reach the tenth of the exact ones count."""
    shares = [
        np.isin(best, each).mean() if each.dtype.kind == "i" else (each >= least - ROUNDING).sum() / K
        for each, best, least in zip(found, numbers, products[:, -1], strict=True)
    ]
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
