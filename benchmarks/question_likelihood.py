"""Whether a second look at the prior pays: the power β of p(question | passage), fitted on pairs.

    python benchmarks/question_likelihood.py PAIRS.jsonl --store DIR [--model FOLDER] [--questions N] [-k 20]

For each of N questions, drawn by --seed, the language model gives log p(x | z_j) of the question, log
p(y | x, z_j) of its right answers, and with an empty answer log p(∅ | x, z_j), beside the retriever's log π_j, for
k passages. All else follows from these numbers. Printed are, for some β, the mean of log p(right answer | x) and
of the log of the prior on relevant passages (over questions that have any), and recall@1: the share of questions
whose passage of highest prior is relevant by matching (``mixrag.evaluation.relevance``). Then the β of highest
likelihood, what it gains on pairs it was not fitted on (five folds; 95 % interval by paired bootstrap), and
recall@1 without and with it, each question with the β that was fitted without it. The last line is what to set
``question_likelihood`` to: 0 where the gain is not significant.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from mixrag import RAG
from mixrag.evaluation.bootstrap import paired_difference
from mixrag.evaluation.question_weight import (
    PairTable,
    QuestionWeight,
    fit_question_likelihood,
    log_likelihoods,
    pair_table,
)
from mixrag.pairs.pairs import read_pairs

SHOWN = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


def main() -> None:
    """Read the pairs, compute the tables, print what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="folder that mixrag train wrote")
    parser.add_argument("--questions", type=int, help="how many; all where it is left out")
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pairs = list(read_pairs([options.pairs]).pairs)
    if options.questions is not None:
        pairs = random.Random(options.seed).sample(pairs, min(options.questions, len(pairs)))
    tables = []
    with RAG.open(options.store, model=options.model) as rag:
        start = time.perf_counter()
        for number, pair in enumerate(pairs, 1):
            tables.append(pair_table(rag, pair, k=options.k))
            print(f"\r{number} of {len(pairs)} questions", end="", flush=True)
        print(f", {(time.perf_counter() - start) / len(pairs):.2f} s each")
    show(tables)
    fitted(tables, fit_question_likelihood(tables, seed=options.seed))


def show(tables: Sequence[PairTable]) -> None:
    """A line for each β of ``SHOWN``."""
    having = [table for table in tables if any(table.relevant)]
    print(f"{len(having)} of {len(tables)} questions have a relevant passage")
    print("β        log p(answer)    log prior of relevant ones    recall@1")
    for weight in SHOWN:
        likelihood = fmean(log_likelihoods(tables, weight))
        mass = fmean(table.log_relevant(weight) for table in having) if having else float("nan")
        first = fmean(table.first_is_relevant(weight) for table in tables)
        print(f"{weight:<8g} {likelihood:13.4f} {mass:29.4f} {first:11.3f}")


def fitted(tables: Sequence[PairTable], found: QuestionWeight) -> None:
    """The fit, and recall@1 before and after."""
    folds = ", ".join(f"{each:.4f}" for each in found.by_fold)
    print(f"fitted β = {found.fitted:.4f} (by fold: {folds})")
    print(f"gain in log p(answer) on other pairs, nats a question: {found.gain:.4f}")
    before = [float(table.first_is_relevant(0.0)) for table in tables]
    after = [float(table.first_is_relevant(each)) for table, each in zip(tables, found.of_question, strict=True)]
    change = paired_difference(after, before)
    print(f"recall@1 {fmean(before):.3f} before, {fmean(after):.3f} after: {change:+.3f}")
    print(f"question_likelihood = {found.weight:.4f}")


if __name__ == "__main__":
    main()
