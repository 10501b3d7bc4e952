"""How much of the prior lies outside the passages found, by size of the corpus, and how many would be needed.

    python benchmarks/mass_outside.py [--sizes 10000,100000,...] [--questions 200] [--temperature T]
    python benchmarks/mass_outside.py --store STORE --pairs FILE ... [--sizes ...] [--questions 200]

Without a store: the synthetic vectors of ``vectors.py``, whose constants were fitted to real ones. With a store:
questions of the pairs, and for each its best passage with others of the store at random; by the dense prior and
by the hybrid one (λ = 0.5, word frequencies of the whole store), with the
temperature of the readers. All is exact: every inner product is computed. A size above that of the store is
simulated: to all its passages come others, each with the score of one of them drawn at random, but for the best.

Median over the questions of ε, the prior mass under the full normaliser of all but the best k passages
(``probability/prior.py``), and the median of the smallest k for ε <= 0.5 and 0.1, of the best 1,000. ε is also
what a certificate is off by: p(answer) under the whole corpus is at least the sum over the k passages read,
and at most that sum plus ε.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixrag import RAG
from mixrag.pairs.pairs import read_pairs, sample
from mixrag.probability import log_sum, mass_outside, passage_scores, smallest_k
from mixrag.retrieval.lexical import open_lexical
from mixrag.utils.arrays import Vectors
from scale import blocks, made_questions

SEED = 0
DEPTH, READ, LIMITS = 1000, (5, 10, 50, 1000), (0.5, 0.1)
SIZES = "1000,10000,100000,300000,1000000,10000000"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--temperature", type=float, help="default: 0.045, of a store that of its readers")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--pairs", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    sizes = [int(each) for each in options.sizes.split(",")]
    heads = [f"ε, k = {k:,}" for k in READ] + [f"k for ε ≤ {limit}" for limit in LIMITS]
    print(f"| passages | prior | {' | '.join(heads)} |\n|{' --- |' * (2 + len(heads))}")
    if options.store:
        of_store(options, sizes)
        return
    for size in sizes:
        asked = made_questions(size, options.questions)
        print(line(size, "dense", *scored(asked, blocks(size), options.temperature or 0.045)), flush=True)


def of_store(options: argparse.Namespace, sizes: Sequence[int]) -> None:
    """Rows of subsets, then of all passages, by both priors."""
    questions = [pair.question for pair in sample(read_pairs(options.pairs).pairs, options.questions, 0)]
    with RAG.open(options.store) as rag:
        vectors, words = torch.from_numpy(rag.store.vectors()[1].copy()), open_lexical(rag.store)
        asked = torch.from_numpy(rag.encoder.encode_questions(questions))
        temperature = options.temperature or rag.settings.temperature or rag.encoder.temperature
        bm25 = torch.stack([torch.from_numpy(words.scores(question)[1]) for question in questions])
    products, every = asked @ vectors.T, len(vectors)
    for prior, share in (("dense", 0.0), ("hybrid", 0.5)):
        scores = passage_scores(products, temperature, bm25=bm25, lexical=share)
        scores = scores.sort(-1, descending=True).values
        for size in sorted({*sizes, every}):
            parts = torch.stack([subset(each, size) for each in scores])
            best = parts.sort(-1, descending=True).values[:, :DEPTH]
            print(line(size, prior, best, log_sum(parts, -1)), flush=True)


def subset(scores: Tensor, size: int) -> Tensor:
    """The best passage of a question and others at random; of more than there are all, and some of them again."""
    drawn, others = np.random.default_rng(SEED), scores[1:]
    if size > len(scores):
        return torch.cat([scores, others[torch.from_numpy(drawn.integers(len(others), size=size - len(scores)))]])
    chosen = drawn.choice(len(others), size - 1, replace=False)
    return torch.cat([scores[:1], others[torch.from_numpy(chosen)]])


def scored(asked: Vectors, passages: Iterable[Vectors], temperature: float) -> tuple[Tensor, Tensor]:
    """The best scores (B, at most DEPTH) of all passages, largest first, and log Z (B,)."""
    questions = torch.from_numpy(np.ascontiguousarray(asked))
    best = torch.empty(len(asked), 0)
    log_z = torch.full((len(asked),), -torch.inf, dtype=torch.float64)
    for block in passages:
        products = questions @ torch.from_numpy(np.ascontiguousarray(block)).T
        log_z = torch.logaddexp(log_z, log_sum(passage_scores(products, temperature), -1))
        both = torch.cat([best, products.topk(min(DEPTH, products.shape[1])).values], -1)
        best = both.topk(min(DEPTH, both.shape[1])).values
    return passage_scores(best, temperature), log_z


def line(size: int, prior: str, best: Tensor, log_z: Tensor) -> str:
    """A row of the table."""
    cells = [f"{size:,}", prior]
    for k in READ:
        outside = mass_outside(log_sum(best[:, :k], -1), log_z)
        cells.append(f"{abs(float(outside.quantile(0.5))):.3f}" if k <= size else "")
    for limit in LIMITS:
        cells.append(needed([fewest(*each, limit) for each in zip(best, log_z, strict=True)]))
    return f"| {' | '.join(cells)} |"


def fewest(best: Tensor, log_z: Tensor, limit: float) -> float:
    """The smallest k, infinite where the best of all are not enough."""
    if float(mass_outside(log_sum(best, -1), log_z)) > limit:
        return float("inf")
    return smallest_k(best, limit, log_z)


def needed(numbers: Sequence[float]) -> str:
    """The median."""
    median = float(np.median(numbers))
    return f"{median:,.0f}" if median < float("inf") else f"> {DEPTH:,}"


if __name__ == "__main__":
    main()
