"""Certified pruning beside the same decoding without it: K = 50 passages, 0.001 of total variation.

    python benchmarks/pruning.py [--rounds N] [--questions N] [--dtype bfloat16]

Questions about the bundled documents (demo/), asked of the packaged model with its reader; all passages have been
read before. Timed is the writing of all answers, from the first law of the next token on. Both write the same
tokens, or it is said how many answers differ. The second row leaves out what restores the whole mixture's numbers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mixrag import RAG, Models
from mixrag.decoding import Step, greedy, scored
from mixrag.mixture import Mixture
from mixrag.pairs import read_pairs, sample
from mixrag.pruning import Pruning
from side_by_side import Row, alternately, keep, seconds, show

DEMO = Path(__file__).parent.parent / "demo"
K, BUDGET, TOKENS = 50, 1e-3, 32


def main() -> None:
    """Index, ask, compare, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = Models(dtype=options.dtype, device="cpu")
        with RAG.open(Path(folder) / "store", create=True, models=models) as rag:
            rag.index([DEMO / "corpus"])
            pairs = sample(read_pairs([DEMO / "pairs.jsonl"]).pairs, options.questions, 0)
            mixtures = [rag.condition(pair.question, k=K) for pair in pairs]
            rows = measured(mixtures, options.rounds)
    rows = [replace(row, scenario=f"{row.scenario}, {options.dtype}") for row in rows]
    show(rows)
    keep(rows)


def measured(mixtures: Sequence[Mixture], rounds: int) -> list[Row]:
    """Two rows: with and without the restored numbers."""
    pruned, plain = ([written(each, budget)[0] for each in mixtures] for budget in (BUDGET, 0.0))
    tokens = [[step.token for step in steps] for steps in pruned]
    differing = sum(a != [step.token for step in b] for a, b in zip(tokens, plain, strict=True))
    print(f"{len(mixtures)} answers, {sum(map(len, tokens))} tokens; {differing} differ")
    return [compared(mixtures, rounds, whole=True), compared(mixtures, rounds, whole=False)]


def compared(mixtures: Sequence[Mixture], rounds: int, *, whole: bool) -> Row:
    """A row; ``whole``: with the numbers of the whole mixture restored."""
    restored = "with" if whole else "without"
    return alternately(
        "5 certified pruning",
        f"{len(mixtures)} answers, K={K}, {BUDGET:g} of total variation, {restored} restoring",
        ">= 3",
        lambda: sum(decoding(each, BUDGET, whole) for each in mixtures),
        lambda: sum(decoding(each, 0.0, whole) for each in mixtures),
        rounds,
    )


def written(mixture: Mixture, budget: float) -> tuple[list[Step], Pruning]:
    """The steps of an answer."""
    pruning = Pruning(budget)
    return list(greedy(mixture, TOKENS, pruning)), pruning


def decoding(mixture: Mixture, budget: float, whole: bool) -> float:
    """Seconds from the first step on; what comes before is the same for both."""
    pruning = Pruning(budget)
    walk = greedy(mixture, TOKENS, pruning)
    steps = [next(walk)]

    def rest() -> None:
        steps.extend(walk)
        if whole:
            scored(mixture, steps, pruning)

    return seconds(rest)


if __name__ == "__main__":
    main()
