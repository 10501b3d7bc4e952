"""Retrieval and answers over question-answer pairs, for the four systems that are settings of one mixture.

    python benchmarks/questions.py PAIRS.jsonl --store DIR [--out RESULTS.jsonl]

Each line of the pairs is {"question", "answers": [...], "doc": file name}. A passage counts as relevant where it
is from that file and contains one of the answers; an answer counts as right where it contains one of them. Both
compare lower-case words and numbers. Every answer is appended to the results as it comes; a second run with the
same file goes on where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from mixrag import RAG, Models, Settings
from mixrag.generator import Prompt
from mixrag.mixture import ScoredAnswer

SYSTEMS: dict[str, dict[str, Any]] = {
    "closed book (k=0)": {"k": 0},
    "concatenation (group=all)": {"group": "all"},
    "RAG-Token (switch=1)": {"switch": 1.0},
    "RAG-Sequence (switch=0)": {"switch": 0.0},
}
RECALL_AT = (1, 5, 20)
Prompts = tuple[Prompt, ...]


def main() -> None:
    """Parse, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"))
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--generator", default=None)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    pairs = [json.loads(line) for line in options.pairs.read_text(encoding="utf-8").splitlines()]
    models = Models(generator=options.generator, dtype=options.dtype)
    settings = Settings(k=options.k, max_tokens=options.max_tokens)
    with RAG.open(options.store, models=models, settings=settings) as rag:
        print_recall(rag, pairs)
        run(rag, pairs, options.out)
    print_answers(options.out, len(pairs))


def print_recall(rag: RAG, pairs: list[dict[str, Any]]) -> None:
    """Share of questions with a relevant passage among the first k, dense and hybrid."""
    for name, weight in (("dense", 0.0), ("hybrid, lexical=0.5", 0.5)):
        print(f"\nretrieval, {name}")
        for k, found in zip(RECALL_AT, recall(rag, pairs, weight), strict=True):
            show(f"recall@{k}", found)


def recall(rag: RAG, pairs: list[dict[str, Any]], weight: float) -> list[list[float]]:
    """For each k, a one for each question with a relevant passage among the first k, else a zero."""
    ranks = []
    for pair in pairs:
        found = rag.passages(pair["question"], k=max(RECALL_AT), lexical=weight).passages
        hits = (
            i for i, p in enumerate(found) if in_document(p.document, pair) and contains(p.text, pair["answers"])
        )
        ranks.append(next(hits, max(RECALL_AT)))
    return [[float(rank < k) for rank in ranks] for k in RECALL_AT]


def run(rag: RAG, pairs: list[dict[str, Any]], out: Path) -> None:
    """Ask every question of every system that the results do not have yet."""
    done = {(record["system"], record["number"]) for record in read(out)}
    with out.open("a", encoding="utf-8") as stream:
        for number, pair in enumerate(pairs):
            gold: dict[Prompts, ScoredAnswer] = {}
            for system, changes in SYSTEMS.items():
                if (system, number) not in done:
                    record = {"system": system, "number": number, **ask(rag, pair, changes, gold)}
                    stream.write(json.dumps(record, ensure_ascii=False) + "\n")
                    stream.flush()


def ask(
    rag: RAG, pair: dict[str, Any], changes: dict[str, Any], gold: dict[Prompts, ScoredAnswer]
) -> dict[str, Any]:
    """One answer, whether it is right, and the probability of the gold answer.

    The gold answer's likelihoods depend on the prompts alone, so systems with the same prompts share them.
    """
    answer = rag.ask(pair["question"], **changes)
    mixture = answer.scored.mixture
    prompts = tuple(component.prompt for component in mixture.components)
    if prompts not in gold:
        gold[prompts] = mixture.score(pair["answers"][0])
    right = contains(answer.text, pair["answers"])
    exact = any(words(answer.text) == words(a) for a in pair["answers"])
    log_gold = replace(gold[prompts], mixture=mixture).log_prob
    return {
        "answer": answer.text,
        "contains": right,
        "exact": exact,
        "log_prob": answer.log_prob,
        "log_gold": log_gold,
    }


def print_answers(out: Path, pairs: int) -> None:
    """A line a system."""
    results = defaultdict(list)
    for record in read(out):
        results[record["system"]].append(record)
    for system, records in results.items():
        print(f"\n{system}: {len(records)} of {pairs} questions")
        show("answer contains gold", [float(r["contains"]) for r in records])
        show("exact match", [float(r["exact"]) for r in records])
        show("mean log p(gold)", [r["log_gold"] for r in records])


def show(name: str, values: list[float]) -> None:
    """The mean with its bootstrap 95 % interval (1,000 resamples of the questions)."""
    source = random.Random(0)
    means = sorted(fmean(source.choices(values, k=len(values))) for _ in range(1000))
    print(f"  {name:<22} {fmean(values):8.3f}   [{means[25]:.3f}, {means[974]:.3f}]")


def contains(text: str, answers: list[str]) -> bool:
    """True where the words of one answer stand in the text in a row."""
    return any(f" {words(answer)} " in f" {words(text)} " for answer in answers)


def in_document(document: str, pair: dict[str, Any]) -> bool:
    """True where a passage's source is the pair's document (a file, or a record behind '#')."""
    return document.endswith(("/" + pair["doc"], "#" + pair["doc"]))


def words(text: str) -> str:
    """Lower-case words and numbers, one space between."""
    return " ".join(re.findall(r"\w+", text.lower()))


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a results file; none where it is not there yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
