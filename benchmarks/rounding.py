"""How far rounding moves the language model's probabilities, and with them certificates.

    python benchmarks/rounding.py STORE QUESTIONS.jsonl [--questions N] [--dtypes bfloat16,float32]

The answers that beam search finds in float32 are read again in every number format, in batches of several shapes:
a row alone, one question, ten questions. For each next token that has a probability of at least 0.001, under every
component: the difference of its log-odds from those in float32, one question at a time. Then: log p(answer | x)
between shapes, and how many answers of the beam are certified.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag import RAG
from mixrag.config.model_config import ModelConfig
from mixrag.inference import Mixture
from mixrag.inference.mixture import start_together
from mixrag.pairs.pairs import read_pairs, sample

LEAST = 1e-3
SHAPES = {"row": 0, "question": 1, "ten questions": 10}


@dataclass(frozen=True)
class Read:
    """What a language model says of the answers of several questions."""

    rows: dict[str, list[Tensor]]
    r"""By shape, for each question (K, T, V\) log p(next token) along its answer."""
    scored: list[Tensor]
    """(K, T) log p of the answer's tokens, in one pass."""


def main() -> None:
    """Ask in every format and shape, compare, print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--dtypes", default="bfloat16")
    parser.add_argument("--beams", type=int, default=4)
    options = parser.parse_args()
    questions = [pair.question for pair in sample(read_pairs([options.pairs]).pairs, options.questions, 0)]
    with opened(options.store, "float32") as rag:
        found = [rag.ask(question, decoder="beam", beams=options.beams, kind="span") for question in questions]
        answers = [each.scored.tokens for each in found]
        print(f"float32: {sum(bool(each.certified) for each in found)} of {len(found)} answers certified")
        exact = read(rag, questions, answers)
    print(
        "| numbers, rows read together | tokens | log-odds off: mean | 99 % | 99.9 % | largest | log p(answer) off: mean | largest |"
    )
    print("|" + " --- |" * 8)
    report("float32", exact, exact)
    for dtype in options.dtypes.split(","):
        with opened(options.store, dtype) as rag:
            report(dtype, read(rag, questions, answers), exact)
            again = [rag.ask(q, decoder="beam", beams=options.beams, kind="span") for q in questions]
            alike = sum(one.scored.tokens == other.scored.tokens for one, other in zip(again, found, strict=True))
            print(
                f"{dtype}: {sum(bool(each.certified) for each in again)} of {len(again)} certified; {alike} as in float32"
            )


def opened(store: Path, dtype: str) -> RAG:
    """The store with the packaged models."""
    return RAG.open(store, models=ModelConfig(dtype=dtype, device="cpu"))


def read(rag: RAG, questions: Sequence[str], answers: Sequence[tuple[int, ...]]) -> Read:
    """Every answer in every shape."""
    rows = {}
    for shape, count in SHAPES.items():
        rows[shape] = list(distributions([rag.condition(question) for question in questions], answers, count, rag))
    scored = []
    for question, tokens in zip(questions, answers, strict=True):
        forget(rag.generator)
        scored.append(rag.condition(question).unconditioned().score_tokens(tokens).log_likelihood)
    return Read(rows, scored)


def distributions(
    mixtures: Sequence[Mixture], answers: Sequence[tuple[int, ...]], count: int, rag: RAG
) -> Iterator[Tensor]:
    r"""(K, T, V\) of each question; ``count`` questions are one batch, 0 is one component."""
    for first in range(0, len(mixtures), max(1, count)):
        some, wanted = mixtures[first : first + max(1, count)], answers[first : first + max(1, count)]
        if count:
            forget(rag.generator)
            yield from together(some, wanted)
        else:
            parts = []
            for j in range(len(some[0].components)):
                forget(rag.generator)
                parts += together([some[0].alone(j)], wanted)
            yield torch.cat(parts)


def together(mixtures: Sequence[Mixture], answers: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Several questions as one batch; an answer that has ended repeats its last token until all have."""
    branches: Any = start_together([mixture.unconditioned() for mixture in mixtures])
    sizes = [len(mixture.components) for mixture in mixtures]
    columns = [branches.log_probs]
    for position in range(max(map(len, answers)) - 1):
        tokens = [answer[min(position, len(answer) - 1)] for answer in answers]
        chosen = torch.tensor(tokens).repeat_interleave(torch.tensor(sizes))
        branches = branches.advance(torch.arange(sum(sizes)), chosen)
        columns.append(branches.log_probs)
    table = torch.stack(columns, 1)
    return [each[:, : len(answer)].clone() for each, answer in zip(table.split(sizes), answers, strict=True)]


def forget(generator: Any) -> None:
    """Nothing of a passage is known from another shape."""
    if getattr(generator, "prefix_cache", None) is not None:
        generator.prefix_cache.clear()


def report(dtype: str, found: Read, exact: Read) -> None:
    """A line for each shape."""
    reference = exact.rows["question"]
    for shape, tables in found.rows.items():
        off = torch.cat([odds_off(one, other) for one, other in zip(tables, reference, strict=True)])
        print(f"| {dtype}, {shape} | {len(off)} | {numbers(off)} |")
    off = torch.cat(
        [
            (log_odds(one) - log_odds(other)).abs()[other.exp() >= LEAST]
            for one, other in zip(found.scored, exact.scored, strict=True)
        ]
    )
    print(f"| {dtype}, answer in one pass | {len(off)} | {numbers(off)} |")


def odds_off(found: Tensor, exact: Tensor) -> Tensor:
    """(N,) differences of log-odds of the tokens that count."""
    counts = (found >= torch.tensor(LEAST).log()) | (exact >= torch.tensor(LEAST).log())
    return (log_odds(found[counts]) - log_odds(exact[counts])).abs()


def log_odds(log_prob: Tensor) -> Tensor:
    """log p/(1-p), in float64; a p of one, up to float32's rounding, has those of 1 - 1e-7."""
    log_prob = log_prob.double().clamp(max=-1e-7)
    return log_prob - torch.log(-torch.expm1(log_prob))


def numbers(off: Tensor) -> str:
    """Mean, quantiles and the largest."""
    shown = [off.mean(), *off.quantile(torch.tensor([0.99, 0.999], dtype=off.dtype)), off.max()]
    return " | ".join(f"{each:.3g}" for each in shown)


if __name__ == "__main__":
    main()
