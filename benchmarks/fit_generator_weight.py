"""The weight of a language model beside an extractive reader: the one under which given answers are most probable.

    python benchmarks/fit_generator_weight.py PAIRS.jsonl [PAIRS.jsonl ...] --store DIR [--model DIR] [--write]

For each pair log p_g(y | x) of both generators, y any of the gold answers, over the passages that the retriever
finds; then EM for the one number w of p(y | x) = w p_LM(y | x) + (1 - w) p_ext(y | x), and the mean of -log p(y|x)
in nats at it, at equal weights, and of each generator alone. Pairs that neither can answer from these passages are
left out. --write puts ``language_model_weight`` into ``mixrag.json`` of --model.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag import RAG
from mixrag.config.bundle import read_bundle, write_bundle
from mixrag.errors import SettingError
from mixrag.evaluation.records import with_filter
from mixrag.inference.contributions import contributions
from mixrag.pairs.pairs import Pair, read_pairs, sample
from mixrag.probability import fitted_weights, log_sum

SEED = 0


def main() -> None:
    """Score the pairs under both, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, nargs="+")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--count", type=int, default=500, help="pairs of each file, at most")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    read = [sample(read_pairs([path]).pairs, options.count, SEED) for path in options.pairs]
    with RAG.open(options.store, model=options.model, generator="both") as rag:
        table = torch.stack([likelihoods(rag, pair) for some in read for pair in some])
    weight = round(float(fitted_weights(table)[0]), 3)
    possible = table[(table > -torch.inf).any(-1)]
    print(f"{len(possible)} of {len(table)} pairs; language_model_weight {weight}")
    for name, w in (("fitted", weight), ("equal", 0.5), ("language model", 1.0), ("extractive", 0.0)):
        nats = -log_sum(possible + torch.tensor([w, 1 - w], dtype=torch.float64).log(), -1)
        print(f"  {name:<15} {float(nats.mean()):8.4f} nats")
    if options.write and options.model is not None:
        bundle = read_bundle(options.model)
        write_bundle(replace(bundle, settings={**bundle.settings, "language_model_weight": weight}))


def likelihoods(rag: RAG, pair: Pair) -> Tensor:
    """(2,) log of the sum of p_g(y | x) over the pair's gold answers, of the language model and the reader."""
    changes: dict[str, Any] = with_filter(rag, pair, {})
    mixture = rag.condition(pair.question, **changes).unconditioned()
    answers = dict.fromkeys(map(mixture.generator.answer_tokens, pair.answers))
    found = [contributions(mixture.score_tokens(answer)) for answer in answers]
    if None in found:
        raise SettingError(
            "a language model with an extractive reader", rag.generator.name, "name a bundle of both"
        )
    logs = [[each.log_prob for each in one.values()] for one in found if one is not None]
    return log_sum(torch.tensor(logs, dtype=torch.float64), 0)


if __name__ == "__main__":
    main()
