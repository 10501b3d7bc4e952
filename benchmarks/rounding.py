"""How far rounding moves the language model's probabilities, and with them certificates.

    python benchmarks/rounding.py STORE QUESTIONS.jsonl [--questions N] [--dtypes bfloat16,openvino:int8]

The answers that beam search finds in float32 are read again in every number format, in batches of several shapes:
a component alone, one question, ten questions. For each next token with a probability between 0.001 and 0.999,
under every component: the difference of its log-odds from those in float32, one question at a time. The same of
the answers' own tokens, read in one pass, and of log p(answer | x), in nats. Last, how many are certified.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag import RAG, Answer
from mixrag.inference import Mixture, ScoredAnswer
from mixrag.inference.mixture import start_together
from mixrag.pairs.pairs import read_pairs, sample
from number_formats import models_in

LEAST = 1e-3
REFERENCE = "one question"
SHAPES = {REFERENCE: 1, "ten questions": 10, "one component": 0}


@dataclass(frozen=True)
class Read:
    """What a language model says of the answers of several questions."""

    rows: dict[str, list[Tensor]]
    r"""By shape, for each question (K, T, V\) log p(next token) along its answer."""
    scored: list[ScoredAnswer]
    """The answers in one pass."""


def main() -> None:
    """Ask in every format and shape, compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--dtypes", default="bfloat16")
    options = parser.parse_args()
    questions = [pair.question for pair in sample(read_pairs([options.pairs]).pairs, options.questions, 0)]
    with opened(options.store, "float32") as rag:
        found = [search(rag, question) for question in questions]
        answers = [each.scored.tokens for each in found]
        exact = read(rag, questions, answers, [REFERENCE])
    print("| numbers, read together | tokens | log-odds off: mean | 99 % | 99.9 % | largest |\n|" + " --- |" * 6)
    searched = {"float32": found}
    for dtype in options.dtypes.split(","):
        with opened(options.store, dtype) as rag:
            report(dtype, read(rag, questions, answers, [*SHAPES]), exact)
            searched[dtype] = [search(rag, question) for question in questions]
    for dtype, some in searched.items():
        alike = sum(one.scored.tokens == other for one, other in zip(some, answers, strict=True))
        sure = sum(bool(each.certified) for each in some)
        print(f"{dtype}: {sure} of {len(some)} answers certified, {alike} of all are those of float32")


def opened(store: Path, dtype: str) -> RAG:
    """The store with the packaged models."""
    return RAG.open(store, models=models_in(dtype))


def search(rag: RAG, question: str) -> Answer:
    """The answer of a beam."""
    return rag.ask(question, decoder="beam", kind="span", max_tokens=16)


def read(rag: RAG, questions: Sequence[str], answers: Sequence[tuple[int, ...]], shapes: Sequence[str]) -> Read:
    """Every answer in every shape."""
    mixtures = [rag.condition(question).unconditioned() for question in questions]
    rows = {shape: [*distributions(mixtures, answers, SHAPES[shape], rag)] for shape in shapes}
    scored = []
    for mixture, tokens in zip(mixtures, answers, strict=True):
        forget(rag.generator)
        scored.append(mixture.score_tokens(tokens))
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
    branches: Any = start_together(mixtures)
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
    for shape, tables in found.rows.items():
        off = torch.cat([odds_off(*both) for both in zip(tables, exact.rows[REFERENCE], strict=True)])
        print(f"| {dtype}, {shape} | {len(off)} | {numbers(off)} |", flush=True)
    scored = [*zip(found.scored, exact.scored, strict=True)]
    off = torch.cat([odds_off(one.log_likelihood, other.log_likelihood) for one, other in scored])
    print(f"| {dtype}, the answer in one pass | {len(off)} | {numbers(off)} |")
    off = torch.tensor([abs(one.log_prob - other.log_prob) for one, other in scored], dtype=torch.float64)
    print(f"| {dtype}, log p(answer), nats | {len(off)} | {numbers(off)} |", flush=True)


def odds_off(found: Tensor, exact: Tensor) -> Tensor:
    """(N,) differences of log-odds of the tokens that count."""
    counts = (torch.maximum(found, exact).exp() >= LEAST) & (torch.minimum(found, exact).exp() <= 1 - LEAST)
    return (log_odds(found[counts]) - log_odds(exact[counts])).abs()


def log_odds(log_prob: Tensor) -> Tensor:
    """log p/(1-p), in float64."""
    log_prob = log_prob.double().clamp(max=-1e-7)
    return log_prob - torch.log(-torch.expm1(log_prob))


def numbers(off: Tensor) -> str:
    """Mean, quantiles and the largest."""
    shown = [off.mean(), *off.quantile(torch.tensor([0.99, 0.999], dtype=off.dtype)), off.max()]
    return " | ".join(f"{each:.3g}" for each in shown)


if __name__ == "__main__":
    main()
