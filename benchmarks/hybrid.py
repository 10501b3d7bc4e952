"""The hybrid query over a store of up to a million synthetic passages: dense search, BM25, prior, reading.

    python benchmarks/hybrid.py [--passages 1000000] [--folder DIR] [--lexical 0.5]

Passages have words (words.py) and vectors (vectors.py) that know nothing of each other. The store is written by
``add_documents``, as ``mixrag index`` does, with vectors drawn in place of encoding; ``--folder`` keeps it for
later. Questions have ten words and come with their vector, so encoding them is not in the times. Besides whole
queries the table has the lexical search alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mixrag.config.settings import Settings
from mixrag.corpus import Document, Store, WordSplitter, add_documents
from mixrag.corpus.splitters.tokens import ESTIMATED, Tokens
from mixrag.retrieval.lexical import open_lexical
from mixrag.retrieval.snapshot_retriever import SnapshotRetriever
from mixrag.utils.arrays import Vectors
from vectors import World
from words import ASKED, LENGTH, Vocabulary

DIMENSION, QUESTIONS, WARM = 384, 200, 50
PER_DOCUMENT = 1000
_BLOCK = 50_000


@dataclass
class Drawn:
    """An encoder whose vectors are drawn, one after the other."""

    passages: Iterator[Vectors]
    questions: dict[str, Vectors]
    name: str = "drawn"
    fingerprint: str = "drawn-1"
    temperature: float = 0.045
    tokens: Tokens = ESTIMATED

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        return np.stack(list(islice(self.passages, len(texts))))

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        return np.stack([self.questions[question] for question in questions])

    def passage_text(self, title: str, text: str) -> str:
        return text


def main() -> None:
    """Write the store where it is missing, open the indexes, ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--lexical", type=float, default=0.5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = (options.folder or Path(scratch)) / f"store-{options.passages}"
        encoder = Drawn(vectors(options.passages), {})
        with Store.open(home, create=True) as store:
            write(store, encoder, options.passages)
            measure(store, encoder, options.lexical)


def vectors(passages: int) -> Iterator[Vectors]:
    """(D,) each, in an endless row."""
    world = World.of(passages, DIMENSION)
    while True:
        for block, _ in world.passages(_BLOCK):
            yield from block


def write(store: Store, encoder: Drawn, passages: int) -> None:
    """Bring the store to so many passages, in documents of a thousand."""
    if store.counts().passages >= passages:
        return
    texts = Vocabulary.of(passages).texts(passages, LENGTH, seed=0)
    parts = iter(lambda: " ".join(islice(texts, PER_DOCUMENT)), "")
    start = time.perf_counter()
    add_documents(
        store,
        (Document(text, id=f"document-{number}") for number, text in enumerate(parts)),
        embed=encoder.encode_passages,
        encoder_fingerprint=encoder.fingerprint,
        encoder_name=encoder.name,
        splitter=WordSplitter(LENGTH),
        batch=4096,
    )
    print(f"{store.counts().passages:,} passages written in {time.perf_counter() - start:.0f} s", flush=True)


def measure(store: Store, encoder: Drawn, share: float) -> None:
    """Print the table."""
    passages = store.counts().passages
    asked = list(Vocabulary.of(passages).texts(WARM + QUESTIONS, ASKED, seed=1))
    world = World.of(passages, DIMENSION)
    near, topics = next(world.passages(len(asked)))
    encoder.questions = dict(zip(asked, world.questions(near, topics), strict=True))
    start = time.perf_counter()
    lexical = open_lexical(store)
    opened = time.perf_counter()
    again = open_lexical(store)
    print(f"words counted in {opened - start:.1f} s, opened again in {time.perf_counter() - opened:.2f} s")
    start = time.perf_counter()
    retriever = SnapshotRetriever(store, lambda: encoder, lambda: "auto")
    retriever.open()
    print(f"indexes opened in {time.perf_counter() - start:.1f} s\n")
    print(f"| {len(again):,} passages | median ms | p95 ms |\n| --- | --- | --- |")
    dense, hybrid = Settings(k=10, lexical=0.0), Settings(k=10, lexical=share)
    show("BM25 of all passages", asked, lambda question: lexical.scores(question))
    show("dense query", asked, lambda question: retriever.retrieve(question, dense))
    show(f"hybrid query, lexical {share}", asked, lambda question: retriever.retrieve(question, hybrid))


def show(name: str, questions: list[str], ask: Callable[[str], object]) -> None:
    """A row of times, after some questions to warm up."""
    for question in questions[:WARM]:
        ask(question)
    spent = []
    for question in questions[WARM:]:
        start = time.perf_counter()
        ask(question)
        spent.append(1000 * (time.perf_counter() - start))
    print(f"| {name} | {np.median(spent):.1f} | {np.percentile(spent, 95):.1f} |", flush=True)


if __name__ == "__main__":
    main()
