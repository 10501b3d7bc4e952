"""Certified pruning beside the same decoding without it: K = 50 passages, 0.001 of total variation.

    python benchmarks/pruning.py [--dtype bfloat16 | --dtype openvino:int8] [--rounds N] [--questions N]
        [--processor-time]

Questions about the bundled documents (demo/), of the packaged language model alone: with its reader, whose answers
have a few words, and without it, whose answers are sentences. All passages have been read before. Timed is the
writing of all answers, from the first distribution of the next token on. Both write the same tokens, or the number
of answers that differ is printed. Of two rows the second leaves out what restores the whole mixture's numbers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mixrag import RAG
from mixrag.inference.mixture import Mixture
from mixrag.inference.pruning import Pruning
from mixrag.inference.stepwise import greedy, scored
from mixrag.pairs.pairs import read_pairs, sample
from number_formats import models_in
from side_by_side import Row, alternately, keep, seconds, show, use_processor_time

DEMO = Path(__file__).parent.parent / "demo"
K, BUDGET = 50, 1e-3


@dataclass(frozen=True)
class Scenario:
    """Who answers, and at what length."""

    name: str
    adapter: str | None
    tokens: int
    questions: int
    rounds: int


SCENARIOS = (
    Scenario("short answers (the reader)", None, 32, 8, 5),
    Scenario("long answers (no reader)", "none", 64, 3, 3),
)


def main() -> None:
    """Index, ask, compare, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=None, help="default: 5 of short answers, 3 of long ones")
    parser.add_argument(
        "--questions", type=int, default=None, help="default: 8 with short answers, 3 with long ones"
    )
    parser.add_argument(
        "--processor-time", action="store_true", help="of one thread, where others use the machine"
    )
    options = parser.parse_args()
    if options.processor_time:
        use_processor_time()
    for scenario in SCENARIOS:
        rounds, questions = options.rounds or scenario.rounds, options.questions or scenario.questions
        rows = rows_of(replace(scenario, rounds=rounds, questions=questions), options.dtype)
        show(rows)
        if not options.processor_time:
            keep(rows)


def rows_of(scenario: Scenario, dtype: str) -> list[Row]:
    """Index the demo, and measure one scenario."""
    with tempfile.TemporaryDirectory() as folder:
        models = replace(models_in(dtype), adapter=scenario.adapter, generator="language-model")
        settings = {"max_tokens": scenario.tokens}
        with RAG.open(Path(folder) / "store", create=True, models=models, settings=settings) as rag:
            rag.index([DEMO / "corpus"])
            pairs = sample(read_pairs([DEMO / "pairs.jsonl"]).pairs, scenario.questions, 0)
            mixtures = [rag.condition(pair.question, k=K) for pair in pairs]
            rows = measured(mixtures, scenario)
    return [replace(row, scenario=f"{scenario.name}, {row.scenario}, {dtype}") for row in rows]


def measured(mixtures: Sequence[Mixture], scenario: Scenario) -> list[Row]:
    """Two rows: with and without the restored numbers."""
    pruned, plain = (
        [list(greedy(each, scenario.tokens, Pruning(budget))) for each in mixtures] for budget in (BUDGET, 0.0)
    )
    tokens = [[step.token for step in steps] for steps in pruned]
    differing = sum(a != [step.token for step in b] for a, b in zip(tokens, plain, strict=True))
    print(f"{len(mixtures)} answers, {sum(map(len, tokens))} tokens; {differing} differ", flush=True)
    return [compared(mixtures, scenario, whole=True), compared(mixtures, scenario, whole=False)]


def compared(mixtures: Sequence[Mixture], scenario: Scenario, *, whole: bool) -> Row:
    """A row; ``whole``: with the numbers of the whole mixture restored."""
    restored = "with" if whole else "without"
    return alternately(
        "5 certified pruning",
        f"{len(mixtures)} answers, K={K}, {BUDGET:g} of total variation, {restored} restoring",
        ">= 2" if whole else ">= 3",
        lambda: sum(decoding(each, scenario.tokens, BUDGET, whole) for each in mixtures),
        lambda: sum(decoding(each, scenario.tokens, 0.0, whole) for each in mixtures),
        scenario.rounds,
    )


def decoding(mixture: Mixture, tokens: int, budget: float, whole: bool) -> float:
    """Seconds from the first step on; what comes before is the same for both."""
    pruning = Pruning(budget)
    walk = greedy(mixture, tokens, pruning)
    steps = [next(walk)]

    def rest() -> None:
        steps.extend(walk)
        if whole:
            scored(mixture, steps, pruning)

    return seconds(rest)


if __name__ == "__main__":
    main()
