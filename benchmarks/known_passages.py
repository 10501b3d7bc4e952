"""How far pairs can train a question encoder at all: the relevant passages are given, as to mixrag train never.

    python benchmarks/known_passages.py TRAIN.jsonl DEV.jsonl --store DIR [--epochs N] [--rate R]

The encoder of questions learns -log of the prior mass on the relevant passages (those of the pair's document that
hold an answer), against all passages of the store, whose vectors stay as they are. No language model takes part.
Marginal likelihood has to find those passages by itself: this is no bound on it, but a generous comparison.
Only pairs with a relevant passage count; dense recall, before and after each epoch.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from mixrag.config.default_models import default_encoder
from mixrag.corpus import Store
from mixrag.evaluation import in_document, passage_holds
from mixrag.pairs.pairs import read_pairs
from mixrag.retrieval.encoders import COSINE_TEMPERATURE


@dataclass(frozen=True)
class Case:
    """A question and, over the M passages of the store, which are relevant and which may be retrieved."""

    question: str
    relevant: Tensor
    allowed: Tensor


def main() -> None:
    """Train, and print recall after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.manual_seed(0)
    with Store.open(options.store) as store:
        _, vectors = store.vectors()
        train, dev = (cases(path, store) for path in (options.train, options.dev))
    model, keys = SentenceTransformer(str(default_encoder()), device="cpu"), torch.from_numpy(vectors)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate)
    print(f"{len(train)} training pairs, {len(dev)} held out\nbefore: {recall(model, keys, dev)}", flush=True)
    for epoch in range(options.epochs):
        random.Random(epoch).shuffle(train)
        for start in range(0, len(train), options.batch):
            loss(model, keys, train[start : start + options.batch]).backward()
            optimizer.step()
            optimizer.zero_grad()
        print(f"epoch {epoch + 1}: {recall(model, keys, dev)}", flush=True)


def cases(path: Path, store: Store) -> list[Case]:
    """The pairs that have a relevant passage."""
    rows, _ = store.vectors()
    passages = store.passages(rows)
    found = []
    for pair in read_pairs([path]).pairs:
        allowed = torch.from_numpy(np.isin(rows, store.rows_where(pair.where)))
        relevant = torch.tensor(
            [
                in_document(passage.document, pair) and passage_holds(passage.text, pair.answers)
                for passage in passages
            ]
        )
        if relevant.any():
            found.append(Case(pair.question, relevant, allowed))
    return found


def logits(model: SentenceTransformer, keys: Tensor, some: list[Case]) -> Tensor:
    """(B, M) cosines over the temperature; -inf where a passage may not be retrieved."""
    tokens = model.preprocess([case.question for case in some])
    vectors = torch.nn.functional.normalize(model(tokens)["sentence_embedding"], dim=-1)
    return (vectors @ keys.T / COSINE_TEMPERATURE).masked_fill(
        ~torch.stack([case.allowed for case in some]), -torch.inf
    )


def loss(model: SentenceTransformer, keys: Tensor, some: list[Case]) -> Tensor:
    """Mean -log of the prior mass on the relevant passages, in nats."""
    log_prior = logits(model, keys, some).log_softmax(-1)
    relevant = torch.stack([case.relevant for case in some])
    return -log_prior.masked_fill(~relevant, -torch.inf).logsumexp(-1).mean()


def recall(model: SentenceTransformer, keys: Tensor, some: list[Case]) -> str:
    """Share of questions with a relevant passage first, and among the first five."""
    ranks = []
    with torch.no_grad():
        for start in range(0, len(some), 32):
            batch = some[start : start + 32]
            for row, case in zip(logits(model, keys, batch), batch, strict=True):
                ranks.append(int((row > row[case.relevant].max()).sum()) + 1)
    shares = (sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5))
    return "recall@1 {:.3f}, recall@5 {:.3f}".format(*shares)


if __name__ == "__main__":
    main()
