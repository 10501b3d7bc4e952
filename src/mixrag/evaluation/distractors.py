"""Passages that cannot help, added to what is retrieved: what do they do to an answer?"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from mixrag.answers.pipeline import Pipeline
from mixrag.config.settings import Settings
from mixrag.corpus import Store
from mixrag.evaluation.relevance import relevant
from mixrag.pairs.pairs import Pair
from mixrag.probability import uniform_prior
from mixrag.retrieval.retriever import Retrieval, Retriever

DistractorKind = Literal["random", "adversarial"]
Asked = tuple[str, tuple[tuple[str, str], ...]]
"""A question and its filter."""


@dataclass(frozen=True)
class DistractingRetriever:
    """A retriever that adds ``count`` passages irrelevant to a question to the k best ones.

    Random ones are drawn from all that is left; adversarial ones are the highest-ranked. They have the weight
    that the retriever gives them, and are in order of rank. Needs exact search.
    """

    retriever: Retriever
    store: Store
    pairs: Mapping[Asked, Sequence[Pair]]
    """By question and filter: what is relevant to it."""
    count: int
    kind: DistractorKind = "random"

    def retrieve(self, question: str, settings: Settings) -> Retrieval:
        """See ``Retriever.retrieve``; raises as it does."""
        everything = replace(settings, k="all", max_outside=None, weights="retriever")
        found = self.retriever.retrieve(question, everything)
        count = len(found.passages)
        first = count if settings.k == "all" else min(settings.k, count)
        asked = self.pairs[_asked(question, settings.where)]
        flags = [relevant(self.store, pair, found.passages) for pair in asked]
        rest = [i for i in range(first, count) if not any(each[i] for each in flags)]
        drawn = rest[: self.count]
        if self.kind == "random" and len(rest) > self.count:
            seed = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big")
            drawn = sorted(np.random.default_rng(seed).choice(rest, self.count, replace=False).tolist())
        return _only(found, [*range(first), *drawn], settings)


def distracted(rag: Pipeline, pairs: Sequence[Pair], count: int, kind: DistractorKind) -> Pipeline:
    """The same models and store, with so many distractors added to what is retrieved for these pairs."""
    by_question: dict[Asked, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_question[_asked(pair.question, {**rag.settings.where, **pair.where})].append(pair)
    return Pipeline(
        rag.store,
        encoder=rag.encoder,
        generator=rag.generator,
        models=rag.models,
        settings=rag.settings,
        retriever=DistractingRetriever(rag.retriever, rag.store, by_question, count, kind),
    )


def _asked(question: str, where: Mapping[str, str]) -> Asked:
    return question, tuple(sorted(where.items()))


def _only(found: Retrieval, chosen: Sequence[int], settings: Settings) -> Retrieval:
    """The chosen passages of a whole ranking, with their prior under the settings' normaliser and weights."""
    places = torch.tensor(chosen, dtype=torch.long)
    log_prior = found.log_prior[places]
    null = torch.tensor([-torch.inf if found.log_null is None else found.log_null], dtype=torch.float64)
    both = torch.cat([log_prior, null]).logsumexp(0)
    total = both if settings.normaliser == "top-k" else torch.zeros_like(both)
    outside = max(0.0, 1.0 - float(both.exp()))
    uniform = settings.weights == "uniform"
    return replace(
        found,
        passages=tuple(found.passages[i] for i in chosen),
        log_prior=(uniform_prior(log_prior) if uniform else log_prior) - total,
        inner_products=found.inner_products[places],
        log_null=None if found.log_null is None else float(null - total),
        outside=None if uniform and settings.normaliser == "top-k" else outside,
    )
