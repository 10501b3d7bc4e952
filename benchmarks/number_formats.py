"""What rounding the language model costs: its distributions in bfloat16 and int8 beside those in float32.

    python benchmarks/number_formats.py [--questions N]

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

import torch
from torch import Tensor

from mixrag import RAG
from mixrag.config.model_config import ModelConfig
from mixrag.pairs.pairs import Pair, read_pairs, sample

DEMO = Path(__file__).parent.parent / "demo"
FORMATS = ("float32", "bfloat16", "int8")


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
    options = parser.parse_args()
    pairs = sample(read_pairs([DEMO / "pairs.jsonl"]).pairs, options.questions, 0)
    with tempfile.TemporaryDirectory() as folder:
        found = {each: distributions(Path(folder) / "store", each, pairs) for each in FORMATS}
    print(
        "| numbers | TV of distributions: mean | largest | log p(token), nats off: mean | largest |\n|"
        + " --- |" * 5
    )
    for each in FORMATS[1:]:
        tv = (found[each].first - found["float32"].first).abs().sum(-1) / 2
        off = (found[each].gold - found["float32"].gold).abs()
        print(f"| {each} | {tv.mean():.3f} | {tv.max():.3f} | {off.mean():.3f} | {off.max():.3f} |")


def distributions(store: Path, dtype: str, pairs: Sequence[Pair]) -> Distributions:
    """The distributions in one format."""
    models = ModelConfig(dtype=dtype, device="cpu")
    with RAG.open(store, create=True, models=models) as rag:
        rag.index([DEMO / "corpus"])
        mixtures = [rag.condition(pair.question) for pair in pairs]
        first = [mixture.start().branches.log_probs.exp() for mixture in mixtures]
        scored = [m.score(pair.answers[0]).log_likelihood for m, pair in zip(mixtures, pairs, strict=True)]
    return Distributions(torch.cat(first), torch.cat([each.flatten() for each in scored]))


if __name__ == "__main__":
    main()
