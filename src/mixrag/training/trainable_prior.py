"""p(z | x) with a gradient: the retriever of ``mixrag.retrieval.retriever`` over vectors in memory.

The prior is the function of ``probability/prior.py`` that the retriever uses. The passages' vectors are constants
(or trained too, and rebuilt now and then); the question's vector, the temperature and the null component's score
are learnt. Every inner product is computed, so the candidates are those of exact search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mixrag.config.settings import Settings
from mixrag.config.training_settings import Part
from mixrag.corpus import Passage, Store
from mixrag.errors import StoreEmptyError
from mixrag.probability import highest, normalised_prior, passage_scores
from mixrag.retrieval.encoders import SentenceEncoder, reference_of
from mixrag.retrieval.lexical import LexicalIndex, open_lexical
from mixrag.training.examples import Example


@dataclass(frozen=True)
class Candidates:
    """The k passages of one question, best first."""

    positions: Tensor
    """(K,) rows of the vector matrix."""
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Prior:
    """log p(z | x) over the candidates of one question, with gradient."""

    log_prior: Tensor
    """(K,) float64."""
    log_null: Tensor | None
    """Log prior of the null component, where there is one."""


@dataclass(frozen=True)
class Staleness:
    """How far the index lags behind the encoder that is being trained."""

    steps: int
    """Optimizer steps since the index was built."""
    shift: float
    """Mean |change| of the candidates' logits d(z)·q(x)/T since then."""


class TrainablePrior:
    """The retriever under training."""

    def __init__(self, store: Store, encoder: SentenceEncoder, settings: Settings, parts: frozenset[Part]) -> None:
        rows, vectors = store.vectors()
        if len(rows) == 0:
            raise StoreEmptyError("passages in the store", "none", "index documents first: mixrag index PATH")
        self.store, self.settings, self.parts = store, settings, parts
        encoder = cast(SentenceEncoder, reference_of(encoder))
        # A copy of the weights in bfloat16 would not follow the weights that are trained.
        encoder = replace(encoder, dtype="float32") if "encoder" in parts else encoder
        self.encoder = _separate(encoder) if "question-encoder" in parts else encoder
        self.rows, self.vectors = rows, aligned(torch.from_numpy(vectors))
        start = settings.temperature or encoder.temperature
        self.log_temperature = torch.tensor(math.log(start), dtype=torch.float64)
        null = (settings.null or 0.0) if settings.null is not None or "null" in parts else None
        self.null = None if null is None else torch.tensor(null, dtype=torch.float64)
        self.built_at = 0
        self._fixed: dict[int, Candidates] = {}
        self._questions: dict[int, Tensor] = {}
        self._bm25: dict[int, Tensor | None] = {}
        self._allowed: dict[int, Tensor | None] = {}
        self._mark_trained()

    def place_null(self, examples: Sequence[Example], share: float = 0.1) -> None:
        """Start a null score that is trained and was not given, so that its prior is ``share`` on average.

        On the scale of inner product / temperature zero would be a prior of almost nothing, without a gradient.
        """
        if self.null is None or self.settings.null is not None:
            return
        some = examples[:64]
        with torch.no_grad():
            found = self.priors(some, self.candidates(some))
            # log of the null prior over that of the passages, at the present score
            odds = [
                float(prior.log_null - prior.log_prior.logsumexp(0))
                for prior in found
                if prior.log_null is not None
            ]
            self.null += math.log(share / (1 - share)) - sum(odds) / len(odds)

    @property
    def temperature(self) -> float:
        """T."""
        return float(self.log_temperature.detach().exp())

    def scalars(self) -> dict[str, Tensor]:
        """Log temperature and null score, where they are trained, by name."""
        named = {"log_temperature": ("temperature", self.log_temperature), "null": ("null", self.null)}
        return {name: value for name, (part, value) in named.items() if part in self.parts and value is not None}

    def weights(self) -> dict[str, Tensor]:
        """The trained weights of the encoders, by name."""
        models = {"question": self.encoder.question_model, "passage": self.encoder.passage_model}
        if self.encoder.question_model is self.encoder.passage_model:
            del models["question"]
        return {
            f"{side}/{name}": parameter
            for side, model in models.items()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    def candidates(self, examples: Sequence[Example]) -> list[Candidates]:
        """The k best passages of each question under the present prior."""
        with torch.no_grad():
            vectors = self._question_vectors(examples)
            return [self._best(example, vector) for example, vector in zip(examples, vectors, strict=True)]

    def priors(self, examples: Sequence[Example], candidates: Sequence[Candidates]) -> list[Prior]:
        """The prior over given candidates, with gradient in whatever is trained."""
        questions = self._question_vectors(examples)
        fresh = self._fresh_vectors(candidates)
        return [
            self._prior(example, vector, chosen, new)
            for example, vector, chosen, new in zip(examples, questions, candidates, fresh, strict=True)
        ]

    def refresh(self, step: int) -> None:
        """Encode all passages again and switch to their vectors at once."""
        texts = [self.encoder.passage_text(p.front_title, p.body) for p in self.store.passages(self.rows)]
        vectors = torch.from_numpy(np.ascontiguousarray(self.encoder.encode_passages(texts)))
        self.vectors, self.built_at = aligned(vectors), step

    def staleness(self, candidates: Sequence[Candidates], questions: Sequence[Example], step: int) -> Staleness:
        """How far the index is from what the encoder gives now."""
        with torch.no_grad():
            vectors = self._question_vectors(questions)
            fresh = self._fresh_vectors(candidates)
            shifts = [
                ((new - self.vectors[chosen.positions]) @ vector).abs().mean() / self.temperature
                for vector, chosen, new in zip(vectors, candidates, fresh, strict=True)
                if new is not None
            ]
        return Staleness(step - self.built_at, float(torch.stack(shifts).mean()) if shifts else 0.0)

    def retrieval_settings(self) -> Settings:
        """The settings with the present temperature and null score."""
        null = None if self.null is None else self.null.item()
        return replace(self.settings, temperature=self.temperature, null=null)

    def _mark_trained(self) -> None:
        for value in self.scalars().values():
            value.requires_grad_(True)
        for model in (self.encoder.passage_model, self.encoder.question_model):
            model.requires_grad_("encoder" in self.parts)
        if "question-encoder" in self.parts:
            self.encoder.question_model.requires_grad_(True)

    def _question_vectors(self, examples: Sequence[Example]) -> Tensor:
        """(B, D)."""
        if self.parts & {"encoder", "question-encoder"}:
            return self.encoder.question_tensor([example.pair.question for example in examples]).cpu()
        missing = [example for example in examples if example.number not in self._questions]
        if missing:
            encoded = self.encoder.encode_questions([example.pair.question for example in missing])
            new = {example.number: torch.from_numpy(row) for example, row in zip(missing, encoded, strict=True)}
            self._questions |= new
        return torch.stack([self._questions[example.number] for example in examples])

    def _fresh_vectors(self, candidates: Sequence[Candidates]) -> Sequence[Tensor | None]:
        """The candidates' vectors by the present encoder, (K, D) a question; None where they are frozen."""
        if "encoder" not in self.parts:
            return [None] * len(candidates)
        texts = [self.encoder.passage_text(p.front_title, p.body) for each in candidates for p in each.passages]
        sizes = [len(each.passages) for each in candidates]
        return list(torch.split(self.encoder.passage_tensor(texts).cpu(), sizes))

    def _prior(self, example: Example, question: Tensor, chosen: Candidates, fresh: Tensor | None) -> Prior:
        products = self.vectors @ question
        if fresh is not None:
            products = products.index_put((chosen.positions,), fresh @ question)
        scores = self._scores(example, products)
        # log Z over all passages has a gradient as well.
        log_z = scores.logsumexp(-1) if self.settings.normaliser == "full" else None
        return Prior(*normalised_prior(scores[chosen.positions], self.null, log_z=log_z))

    def _scores(self, example: Example, products: Tensor) -> Tensor:
        """(M,) scores of all passages, from the inner products (M,)."""
        return passage_scores(
            products,
            self.log_temperature.exp(),
            bm25=self._bm25_of(example),
            lexical=self.settings.lexical,
            lexical_temperature=self.settings.lexical_temperature,
            allowed=self._allowed_rows(example),
        )

    def _best(self, example: Example, question: Tensor) -> Candidates:
        if not self.parts and example.number in self._fixed:
            return self._fixed[example.number]
        products = self.vectors @ question
        scores = self._scores(example, products)
        allowed = self._allowed_rows(example)
        rows = torch.arange(len(scores)) if allowed is None else allowed.nonzero()[:, 0]
        k = len(rows) if self.settings.k == "all" else min(self.settings.k, len(rows))
        if k == 0:
            raise StoreEmptyError(
                f"passages for the question at {example.pair.source}",
                f"none with {dict(example.pair.where)}",
                "loosen its filter, or index the documents",
            )
        # Equal scores, as without a word of the question at λ = 1, are in the order of dense search.
        rows = rows[products[rows].argsort(descending=True, stable=True)]
        positions = rows[highest(scores[rows], k)]
        found = Candidates(positions, tuple(self.store.passages(self.rows[positions.numpy()])))
        if not self.parts:
            self._fixed[example.number] = found
        return found

    def _allowed_rows(self, example: Example) -> Tensor | None:
        """(M,) bool: the passages that the pair's filter lets through."""
        filters = {**self.settings.where, **example.pair.where}
        if not filters:
            return None
        if example.number not in self._allowed:
            allowed = np.isin(self.rows, self.store.rows_where(filters))
            self._allowed[example.number] = torch.from_numpy(allowed)
        return self._allowed[example.number]

    @cached_property
    def _lexical(self) -> LexicalIndex:
        found = open_lexical(self.store)
        return found.tolerant() if self.settings.typos else found

    def _bm25_of(self, example: Example) -> Tensor | None:
        """(M,) BM25 of all passages; None where none that its filter lets through shares a word with the question.

        It does not change in training, so it is computed once for each question.
        """
        if self.settings.lexical == 0.0:
            return None
        if example.number not in self._bm25:
            allowed = self._allowed_rows(example)
            among = None if allowed is None else self.rows[allowed.numpy()]
            rows, scores = self._lexical.scores(example.pair.question, among)
            bm25 = torch.zeros(len(self.rows), dtype=torch.float64)
            bm25[torch.from_numpy(np.searchsorted(self.rows, rows))] = torch.from_numpy(scores)
            self._bm25[example.number] = bm25 if bool((bm25 > 0).any()) else None
        return self._bm25[example.number]


def _separate(encoder: SentenceEncoder) -> SentenceEncoder:
    """The encoder with a separate question model: training that leaves the passages' vectors valid."""
    if encoder.question_model is not encoder.passage_model:
        return encoder
    question: Any = deepcopy(encoder.question_model)
    return replace(encoder, question_model=question, titles=encoder.separates_titles)


def aligned(vectors: Tensor) -> Tensor:
    """A copy in memory that torch allocated.

    The last bits of products depend on its alignment; a resumed run should not.
    """
    return vectors.clone()
