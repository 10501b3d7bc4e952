"""Which temperature suits an encoder: -log of the prior mass on relevant passages, over a range of T.

    python benchmarks/temperature.py PAIRS.jsonl --store DIR

The prior is the softmax over all passages of the store; a passage is relevant where it is from the pair's document
and contains one of its answers. Questions without any relevant passage are left out. Lower is better.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from mixrag import RAG
from questions import contains, in_document, read

TEMPERATURES = (0.02, 0.03, 0.04, 0.045, 0.05, 0.06, 0.08, 0.1, 0.2, 1.0)


def main() -> None:
    """Print a line a temperature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    options = parser.parse_args()
    with RAG.open(options.store) as rag:
        scores, relevant = score(rag, read(options.pairs))
    answerable = relevant.any(1)
    print(f"{answerable.sum()} of {len(relevant)} questions have a relevant passage")
    for temperature in TEMPERATURES:
        print(f"T = {temperature:<6} {cost(scores[answerable] / temperature, relevant[answerable]):.4f} nats")


def score(rag: RAG, pairs: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Inner products (B, M) and which passages are relevant (B, M)."""
    rows, vectors = rag.store.vectors()
    passages = rag.store.passages(rows)
    questions = rag.encoder.encode_questions([pair["question"] for pair in pairs])
    relevant = np.zeros((len(pairs), len(passages)), dtype=bool)
    for i, pair in enumerate(pairs):
        for j, passage in enumerate(passages):
            relevant[i, j] = in_document(passage.document, pair) and contains(passage.text, pair["answers"])
    return questions.astype(np.float64) @ vectors.T, relevant


def cost(logits: Any, relevant: Any) -> float:
    """Mean of -log Σ_relevant softmax(logits)."""
    logits = logits - logits.max(1, keepdims=True)
    mass = np.exp(logits)
    return float(-np.log((mass * relevant).sum(1) / mass.sum(1)).mean())


if __name__ == "__main__":
    main()
