"""Questions to shards behind real servers on loopback: time on the clock, and processor time of who asks.

    python benchmarks/http_shards.py [--shards 1,2,4,8,16] [--passages 10000] [--questions 100]

Synthetic passages of 30 words, as in ``scale.py``; each shard has its own. All servers are one other process of
this machine, so that they wait for each other: the time on the clock is that of a machine with all shards.
Processor time is that of this process alone, encoding not in it: what who asks needs for each shard, wherever it
is. Beside them the same shards as folders of this process. Both must find the same passages with the same prior.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import uvicorn

from mixrag import RAG
from mixrag.corpus import Document
from mixrag.retrieval.retriever import Retrieval
from mixrag.server.app import make_app
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from mixrag.utils.arrays import Vectors
from scale import SEED, blocks, made_questions
from scale_engines import PER_DOCUMENT, Corpus, Drawn, Stored
from words import ASKED, Vocabulary

WARM, WORDS, DEADLINE = 10, 30, 120.0
PRIORS = {"dense": 0.0, "hybrid": 0.5}


def main() -> None:
    """Write the shards, serve them, ask, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", default="1,2,4,8,16")
    parser.add_argument("--passages", type=int, default=10_000, help="of each shard")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--serve", type=Path, nargs="+", help="serve these stores, print their addresses")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(served(options.serve))
        return
    counts = [int(each) for each in options.shards.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        stores = [Path(folder) / f"shard-{number}" for number in range(max(counts))]
        whole = corpus(options.passages * len(stores), options.questions + WARM)
        vectors, documents = np.concatenate([*whole.blocks()]), [*whole.documents()]
        for number, store in enumerate(stores):
            first = number * options.passages
            own = documents[first // PER_DOCUMENT : (first + options.passages) // PER_DOCUMENT]
            write(store, own, vectors[first : first + options.passages], whole)
        print(
            "| shards | prior | servers, ms | p95 | processor ms | folders, ms | processor ms |\n|" + " --- |" * 7
        )
        with servers(stores) as addresses:
            for count in counts:
                for prior, lexical in PRIORS.items():
                    over = asked(addresses[:count], whole, lexical)
                    here = asked([*map(str, stores[:count])], whole, lexical)
                    check(over[2], here[2])
                    print(f"| {count} | {prior} | {row(over, p95=True)} | {row(here)} |", flush=True)


def corpus(passages: int, questions: int) -> Corpus:
    """The passages of all shards."""
    texts = list(Vocabulary.of(passages).texts(questions, ASKED, seed=SEED))
    found = dict(zip(texts, made_questions(passages, questions), strict=True))
    return Corpus(passages, WORDS, partial(blocks, passages), found)


def write(store: Path, documents: Sequence[Document], vectors: Vectors, whole: Corpus) -> None:
    """One shard: its documents, and the vectors of their passages."""

    class Part(Corpus):
        """What one shard has."""

        def documents(self) -> Iterator[Document]:
            """Its own."""
            return iter(documents)

    with Stored(store, Part(len(vectors), WORDS, lambda: iter([vectors]), whole.questions)) as built:
        built.write()


async def served(stores: Sequence[Path]) -> None:
    """Each store at an address of its own, until this process is ended."""
    apps = [make_app(Service(Stores([Served("shard", RAG.open(store))]))) for store in stores]
    found = [uvicorn.Server(uvicorn.Config(app, port=0, log_level="error")) for app in apps]
    running = [asyncio.create_task(server.serve()) for server in found]
    while not all(server.started for server in found):
        await asyncio.sleep(0.05)
    ports = [server.servers[0].sockets[0].getsockname()[1] for server in found]
    print(json.dumps([f"http://127.0.0.1:{port}" for port in ports]), flush=True)
    await asyncio.gather(*running)


@contextmanager
def servers(stores: Sequence[Path]) -> Iterator[list[str]]:
    """Their addresses."""
    command = [sys.executable, "-W", "ignore", __file__, "--serve", *map(str, stores)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def asked(locations: Sequence[str], whole: Corpus, lexical: float) -> tuple[list[float], float, list[Retrieval]]:
    """Milliseconds of each question, mean processor time of this process for one, and what was found."""
    with RAG.open(",".join(locations), encoder=Drawn(whole), shard_seconds=DEADLINE) as rag:
        rag.settings = replace(rag.settings, k=10, lexical=lexical, typos=False)
        questions = [*whole.questions]
        for question in questions[:WARM]:
            rag.passages(question)
        times, found, began = [], [], time.process_time()
        for question in questions[WARM:]:
            start = time.perf_counter()
            found.append(rag.passages(question))
            times.append(1000 * (time.perf_counter() - start))
        return times, 1000 * (time.process_time() - began) / len(times), found


def row(measured: tuple[list[float], float, list[Retrieval]], *, p95: bool = False) -> str:
    """The cells of one way to ask."""
    times, processor, _ = measured
    high = f" | {np.percentile(times, 95):.1f}" if p95 else ""
    return f"{statistics.median(times):.1f}{high} | {processor:.1f}"


def check(found: Sequence[Retrieval], expected: Sequence[Retrieval]) -> None:
    """Stop where servers find something else."""
    for one, other in zip(found, expected, strict=True):
        same = [each.text for each in one.passages] == [each.text for each in other.passages]
        if not same or not np.allclose(one.log_prior, other.log_prior, atol=1e-9):
            raise SystemExit("expected the same passages over servers and folders; they differ")


if __name__ == "__main__":
    main()
