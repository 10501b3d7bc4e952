"""Indexing generated texts by this process and by 1 and 2 encoders of a Ray cluster of this machine.

    python benchmarks/ray_embedding.py [--files 60] [--words 4000] [--encoders 1,2] [--encoder NAME] [--threads 1]
    python benchmarks/ray_embedding.py --batches

Every row makes a store of its own from the same files. The encoder in this process has ``--threads`` threads, and
one of Ray as many as there are processors for each. ``seconds`` are those of ``RAG.index``: with loading the
encoders on the workers, without starting the cluster. ``passages_per_second`` is the rate between the first
vectors and the last. Vectors are compared with those of this process. ``--batches`` compares vectors of texts that
share a batch with those of the same texts alone, and with those of two threads.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from mixrag import RAG, load_encoder
from mixrag.corpus.distributed.cluster import connected
from mixrag.utils.arrays import Vectors
from mixrag.utils.progress import ProgressEvent

SEED = 1


def vocabulary(drawn: random.Random) -> list[str]:
    """Words of two to nine letters."""
    return ["".join(drawn.choices("abcdefghilmnoprstu", k=drawn.randint(2, 9))) for _ in range(5000)]


def write_files(folder: Path, files: int, words: int) -> None:
    """Text of random words in sentences of seven to twenty-one."""
    drawn = random.Random(SEED)
    known = vocabulary(drawn)
    folder.mkdir()
    for number in range(files):
        left, sentences = words, []
        while left > 0:
            length = drawn.randint(7, 21)
            sentences.append(" ".join(drawn.choices(known, k=length)).capitalize() + ".")
            left -= length
        (folder / f"{number}.txt").write_text(" ".join(sentences))


def indexed(
    store: Path, folder: Path, encoder: str | None, ray: str | None, encoders: int | None
) -> tuple[float, float]:
    """Seconds of indexing a folder, and vectors in a second between the first and the last."""
    seen: list[tuple[float, int]] = []

    def note(event: ProgressEvent) -> None:
        if event.stage == "embedding":
            seen.append((time.perf_counter(), event.done))

    with RAG.open(store, create=True, encoder=encoder) as rag:
        assert rag.encoder
        start = time.perf_counter()
        rag.index(folder, ray=ray, ray_encoders=encoders, progress=note)
        seconds = time.perf_counter() - start
    (first, before), (last, after) = seen[0], seen[-1]
    return seconds, (after - before) / max(1e-9, last - first)


def vectors_in(store: Path) -> tuple[list[bytes], Vectors]:
    """Hashes of the texts, and vectors, in the order of the hashes."""
    with RAG.open(store) as rag:
        rows, vectors = rag.store.vectors()
        hashes = rag.store.text_hashes(rows)
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    return [hashes[place] for place in order], vectors[order]


@contextmanager
def cluster(encoders: int | None) -> Iterator[str | None]:
    """A cluster of this machine; None: this process alone."""
    if encoders is None:
        yield None
        return
    with connected("local"):
        yield "auto"  # the one that this process is connected to


def compare_batches(name: str | None) -> None:
    """Print the largest differences of an entry of a vector, by dtype."""
    drawn = random.Random(SEED)
    texts = [" ".join(drawn.choices(vocabulary(drawn), k=drawn.randint(5, 60))) for _ in range(24)]
    for dtype in ("float32", "bfloat16"):
        encoder = load_encoder(name, dtype=dtype)
        torch.set_num_threads(1)
        together = encoder.encode_passages(texts)
        alone = np.concatenate([encoder.encode_passages([text]) for text in texts])
        torch.set_num_threads(2)
        threads = encoder.encode_passages(texts)
        row = {"dtype": dtype, "alone": float(np.abs(together - alone).max())}
        print(json.dumps({**row, "two_threads": float(np.abs(together - threads).max())}), flush=True)


def main() -> None:
    """Print one line of JSON for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--words", type=int, default=4000)
    parser.add_argument("--encoders", default="1,2")
    parser.add_argument("--encoder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", action="store_true")
    given = parser.parse_args()
    if given.batches:
        compare_batches(given.encoder)
        return
    torch.set_num_threads(given.threads)
    logging.getLogger("mixrag").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_files(root / "files", given.files, given.words)
        expected: tuple[list[bytes], Vectors] | None = None
        for encoders in (None, *map(int, given.encoders.split(","))):
            with cluster(encoders) as ray:
                load = os.getloadavg()[0]
                seconds, rate = indexed(root / f"store-{encoders}", root / "files", given.encoder, ray, encoders)
            hashes, vectors = vectors_in(root / f"store-{encoders}")
            expected = expected or (hashes, vectors)
            assert hashes == expected[0]
            row = {
                "encoders": encoders or "this process",
                "passages": len(hashes),
                "seconds": round(seconds, 1),
                "passages_per_second": round(rate, 1),
                "largest_difference": float(np.abs(vectors - expected[1]).max()),
                "load_before": round(load, 1),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
