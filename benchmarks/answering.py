"""First answer of a new process, and answers per second: the packaged readers beside each of them alone.

    mixrag index demo/corpus --store STORE
    python benchmarks/answering.py STORE demo/pairs.jsonl [--rounds 3] [--questions 24] [--engine openvino]

Each measurement is a process of its own, and the rows take turns. ``first``: from starting Python to the first
answer. ``one``: the median of further questions that are asked one by one; passages that several of them share are
read once. ``many``: answers per second of ``ask_many``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from mixrag import RAG
from mixrag.pairs.pairs import read_pairs

ROWS = {
    "both, beam (the default)": ("both", "beam"),
    "language model, greedy (the former default)": ("language-model", "greedy"),
    "language model, beam": ("language-model", "beam"),
    "extractive reader": ("extractive", "beam"),
}
"""Generator and decoder."""
WARM = 8
"""Questions that are asked one by one."""


def main() -> None:
    """Measure all rows in turn, print a Markdown table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--row", help="measure this one here, print JSON")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measured(options)))
        return
    found: dict[str, list[list[float]]] = {row: [] for row in ROWS}
    for _ in range(options.rounds):
        for row, times in found.items():
            times.append(in_new_process(row))
    print("| readers | first, s | one, s | many, answers/s |\n|" + " --- |" * 4)
    for row, times in found.items():
        first, one, many = (statistics.median(each) for each in zip(*times, strict=True))
        print(f"| {row} | {first:.1f} | {one:.2f} | {many:.2f} |")


def in_new_process(row: str) -> list[float]:
    """``measured`` of a row, with the time from the start of its process as the first."""
    start = time.time()
    command = [sys.executable, *sys.argv, "--row", row]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, one, many = json.loads(done.stdout.splitlines()[-1])
    return [first - start, one, many]


def measured(options: argparse.Namespace) -> list[float]:
    """The clock at the first answer; seconds of one question; answers per second."""
    questions = [pair.question for pair in read_pairs([options.pairs]).pairs][: WARM + 1 + options.questions]
    generator, decoder = ROWS[options.row]
    with RAG.open(options.store, engine=options.engine, generator=generator) as rag:
        rag.ask(questions[0], decoder=decoder)
        first = time.time()
        one = [seconds(rag, [question], decoder) for question in questions[1 : WARM + 1]]
        many = questions[WARM + 1 :]
        return [first, statistics.median(one), len(many) / seconds(rag, many, decoder)]


def seconds(rag: RAG, questions: list[str], decoder: str) -> float:
    """How long these take together."""
    start = time.perf_counter()
    rag.ask_many(questions, decoder=decoder)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
