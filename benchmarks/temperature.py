"""Which temperatures suit an encoder and BM25: -log of the prior mass on relevant passages, over a range of them.

    python benchmarks/temperature.py PAIRS.jsonl --store DIR

The dense prior is the softmax of inner product / T over all passages of the store, the hybrid one the softmax of
half the dense score and half of BM25 / T (``--lexical 0.5``). For comparison: the mixture of half the dense prior
and half the softmax of BM25 / T over the passages that share a word with the question.
A passage is relevant where it is from the pair's document and contains one of its answers; questions without
any are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from mixrag import RAG
from mixrag.evaluation import in_document, passage_holds
from mixrag.pairs.pairs import Pair, read_pairs
from mixrag.retrieval.lexical import open_lexical

DENSE = (0.02, 0.03, 0.04, 0.045, 0.05, 0.06, 0.08, 0.1, 0.2, 1.0)
LEXICAL = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)


def main() -> None:
    """Print a line a temperature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    options = parser.parse_args()
    with RAG.open(options.store) as rag:
        pairs = read_pairs([options.pairs]).pairs
        products, relevant = score(rag, pairs)
        words = lexical(rag, pairs)
        own = products / rag.encoder.temperature
    answerable = relevant.any(1)
    print(f"{answerable.sum()} of {len(relevant)} questions have a relevant passage")
    print("dense              nats    best passage relevant")
    for temperature in DENSE:
        show(temperature, softmax(products / temperature)[answerable], relevant[answerable])
    print("half the dense score at the encoder's temperature, half of BM25 / T")
    for temperature in LEXICAL:
        sums = 0.5 * own + 0.5 * np.where(np.isfinite(words), words, 0.0) / temperature
        show(temperature, softmax(sums)[answerable], relevant[answerable])
    print("mixture of half the dense prior and half the lexical one")
    for temperature in LEXICAL:
        mixture = 0.5 * softmax(own) + 0.5 * softmax(words / temperature)
        show(temperature, mixture[answerable], relevant[answerable])


def show(temperature: float, prior: Any, relevant: Any) -> None:
    """Mean of -log of the mass on relevant passages, and how often the first passage is one."""
    nats = -np.log((prior * relevant).sum(1)).mean()
    first = np.take_along_axis(relevant, prior.argmax(1)[:, None], 1).mean()
    print(f"  T = {temperature:<6} {nats:12.4f} {first:12.3f}")


def softmax(logits: Any) -> Any:
    """Over the last axis."""
    mass = np.exp(logits - logits.max(1, keepdims=True))
    return mass / mass.sum(1, keepdims=True)


def lexical(rag: RAG, pairs: tuple[Pair, ...]) -> Any:
    """BM25 scores (B, M); -inf where no word is shared."""
    rows, _ = rag.store.vectors()
    index = open_lexical(rag.store)
    scores = np.full((len(pairs), len(rows)), -np.inf)
    for i, pair in enumerate(pairs):
        found, values = index.scores(pair.question)
        scores[i, np.searchsorted(rows, found[values > 0])] = values[values > 0]
    return scores


def score(rag: RAG, pairs: tuple[Pair, ...]) -> tuple[Any, Any]:
    """Inner products (B, M) and which passages are relevant (B, M)."""
    rows, vectors = rag.store.vectors()
    passages = rag.store.passages(rows)
    questions = rag.encoder.encode_questions([pair.question for pair in pairs])
    relevant = np.zeros((len(pairs), len(passages)), dtype=bool)
    for i, pair in enumerate(pairs):
        for j, passage in enumerate(passages):
            relevant[i, j] = in_document(passage.document, pair) and passage_holds(passage.text, pair.answers)
    return questions.astype(np.float64) @ vectors.T, relevant


if __name__ == "__main__":
    main()
