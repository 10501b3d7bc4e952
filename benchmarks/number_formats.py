"""What rounding the language model costs: its distributions in bfloat16 and int8 beside those in float32.

    python benchmarks/number_formats.py [--questions N] [--formats bfloat16,int8,openvino:bfloat16,openvino:int8]

Questions about the bundled documents, packaged model with its reader, k = 5. For each number format, over all
components of all questions: the total variation between the distributions of the answer's first token, and the
difference of log p(token) over the tokens of the gold answer.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag import RAG
from mixrag.config.model_config import ModelConfig
from mixrag.pairs.pairs import Pair, read_pairs, sample

DEMO = Path(__file__).parent.parent / "demo"
REFERENCE = "float32"
FORMATS = ("bfloat16", "int8", "openvino:bfloat16", "openvino:int8")


@dataclass(frozen=True)
class Distributions:
    """What a language model says of several questions."""

    first: Tensor
    r"""(N, V\) distribution of the first token, of all components of all questions."""
    gold: Tensor
    """(L,) log p(token) of all tokens of all gold answers under all components."""


def main() -> None:
    """Ask in every format, compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--formats", default=",".join(FORMATS), help="ENGINE:DTYPE, or DTYPE with torch")
    options = parser.parse_args()
    pairs = sample(read_pairs([DEMO / "pairs.jsonl"]).pairs, options.questions, 0)
    formats = options.formats.split(",")
    with tempfile.TemporaryDirectory() as folder:
        exact, *rounded = (distributions(Path(folder) / "store", each, pairs) for each in (REFERENCE, *formats))
    print(
        "| numbers | TV of distributions: mean | largest | log p(token), nats off: mean | largest |\n|"
        + " --- |" * 5
    )
    for name, found in zip(formats, rounded, strict=True):
        tv = (found.first - exact.first).abs().sum(-1) / 2
        off = (found.gold - exact.gold).abs()
        print(f"| {name} | {tv.mean():.3f} | {tv.max():.3f} | {off.mean():.3f} | {off.max():.3f} |")


def models_in(name: str) -> ModelConfig:
    """The packaged models in a format, DTYPE or ENGINE:DTYPE."""
    *engine, dtype = name.split(":")
    given: dict[str, Any] = {"engine": engine[0]} if engine else {}
    return ModelConfig(dtype=dtype, device="cpu", **given)


def distributions(store: Path, name: str, pairs: Sequence[Pair]) -> Distributions:
    """The distributions in one format."""
    models = models_in(name)
    with RAG.open(store, create=True, models=models) as rag:
        rag.index([DEMO / "corpus"])
        mixtures = [rag.condition(pair.question) for pair in pairs]
        first = [mixture.start().branches.log_probs.exp() for mixture in mixtures]
        scored = [m.score(pair.answers[0]).log_likelihood for m, pair in zip(mixtures, pairs, strict=True)]
    return Distributions(torch.cat(first), torch.cat([each.flatten() for each in scored]))


if __name__ == "__main__":
    main()
