"""Recall of several retrievers on the same question-answer pairs, as one table; no language model is asked.

    python benchmarks/recall.py PAIRS.jsonl --store DIR --system 'NAME; KEY=VALUE; ...' [--system ...]

Keys as for scores.py. Recall@k: share of questions with a relevant passage among the first k (see
``mixrag.evaluation.relevance``); MRR: mean of 1/rank of the first one, 0 beyond rank 20. The last column is the
paired difference of recall@1 to the first system.

    --system 'dense; adapter=none' --system 'hybrid; adapter=none; lexical=0.5' --system 'trained; model=trained'
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mixrag.evaluation import bootstrap, first_relevant, paired_difference
from mixrag.evaluation.summary import RECALL_AT
from mixrag.pairs.pairs import Pair, read_pairs
from mixrag.rag import RAG
from scores import opened, parsed


def main() -> None:
    """Rank for every system, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--system", action="append", required=True)
    options = parser.parse_args()
    pairs = read_pairs([options.pairs]).pairs
    print(f"{len(pairs)} questions\n")
    print("| retriever | recall@1 | recall@5 | recall@20 | MRR | recall@1 beside the first |")
    print("| --- | --- | --- | --- | --- | --- |")
    first: list[float] = []
    for described in options.system:
        name, chosen = parsed(described)
        with opened(options.store, chosen, "float32") as rag:
            ranks = ranked(rag, pairs)
        found = [[float(rank <= k) for rank in ranks] for k in RECALL_AT]
        first = first or found[0]
        cells = [*map(bootstrap, found), bootstrap([1 / rank for rank in ranks])]
        gain = paired_difference(found[0], first)
        print(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} | {gain:+.3f} |")


def ranked(rag: RAG, pairs: tuple[Pair, ...]) -> list[float]:
    """Rank of the first relevant passage of each question; infinite beyond the last k."""
    ranks = (first_relevant(rag, pair, {"k": max(RECALL_AT), "where": dict(pair.where)}) for pair in pairs)
    return [float("inf") if rank is None else float(rank) for rank in ranks]


if __name__ == "__main__":
    main()
