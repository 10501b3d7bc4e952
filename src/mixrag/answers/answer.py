"""Answer: what a person or a program is told. Every number in it has a stated definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from mixrag.answers.confidence import Confidence, Judge, Signals, log_mass
from mixrag.config.settings import Settings
from mixrag.corpus import Passage
from mixrag.generator import Generator, Shortened
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.probability import effective_number
from mixrag.retrieval.retriever import Retrieval


@dataclass(frozen=True, slots=True)
class WeightedPassage:
    """A retrieved passage with its weights before and after the answer is known."""

    passage: Passage
    prior: float
    """p(z | x)."""
    posterior: float
    """Posterior of the component that holds it: the expected share of the answer's tokens which it wrote
    (at switch 0, the probability that it wrote the answer), among the passages listed. Members of one group
    share their component's."""
    inner_product: float
    """d(z)·q(x), from which the prior comes."""


@dataclass(frozen=True, slots=True)
class AnswerToken:
    """A token of the answer and who wrote it."""

    text: str
    log_prob: float
    """log p(token | question, tokens before)."""
    responsibility: tuple[float, ...]
    """For each passage, p(the component that holds it wrote this token | question, answer)."""
    null: float
    """The same for the null component."""


@dataclass(frozen=True)
class Answer:
    """An answer, its probability, and the passages behind it."""

    question: str
    text: str
    log_prob: float
    """log p(answer, and its end | question) in nats, under the mixture that ``normaliser`` names."""
    normaliser: str
    """"top-k": the prior sums to one over the passages listed (and null). "full": over the whole corpus, and
    ``log_prob`` is the part of these passages."""
    temperature: float
    """T in p(z | x) ∝ exp(inner product / T)."""
    switch: float
    passages: tuple[WeightedPassage, ...]
    tokens: tuple[AnswerToken, ...]
    null_prior: float | None
    """Prior of the null component; None where there is none."""
    null_posterior: float | None
    outside: float | None
    """Prior mass, under the full normaliser, of all passages not listed; None where it is unknown (approximate
    search, uniform weights)."""
    log_bounds: tuple[float, float] | None
    """Bounds on log p(answer | question) under the mixture of all passages (that the filter lets through); None
    where ``outside`` is unknown, or where a group was cut short by k."""
    finished: bool
    """False where the answer was cut off at max_tokens."""
    log_mass: float
    """log Σ p(y | question) over this answer and those that the decoder found beside it and that say the same
    once normalised; with greedy and sample, ``log_prob``."""
    support: float
    """Largest inner product of the question with a passage listed; 0 where there is none."""
    confidence: Confidence | None
    """Calibrated probability that the answer is right; None where no calibration holds, or it is cut off."""
    uncalibrated: str | None
    """What is not as it was when the calibration at hand was fitted; None where it holds, or there is none."""
    certified: bool | None
    """Beam search: True if no answer is more probable. None for decoders that cannot tell."""
    pruned: float
    """Total variation spent on passages dropped while it was written; 0 where none was. Every answer spends at
    most ``Settings.prune``, which therefore bounds how far the law of answers is from the mixture's. All other
    numbers are the mixture's own."""
    shortened: tuple[Shortened, ...]
    """Passages that the model could not read to their end."""
    effective_prior: float
    """e^H of the prior over components: how many passages it spreads over."""
    effective_posterior: float
    """e^H of the posterior over components."""
    scored: ScoredAnswer
    """The likelihood table, for further questions."""
    outside_bounds: tuple[float, float] | None = None
    """Bounds on ``outside`` where approximate search leaves it unknown; they hold always. None elsewhere."""

    @property
    def probability(self) -> float:
        """p(answer | question)."""
        return math.exp(self.log_prob)

    @property
    def abstains(self) -> bool:
        """True where the confidence is below its threshold: ``text`` is a guess then, and no answer."""
        return self.confidence is not None and self.confidence.abstains

    def as_dict(self) -> dict[str, Any]:
        """The JSON contract of ``mixrag ask --json`` (docs/json.md)."""
        return {
            "question": self.question,
            "answer": self.text,
            "log_prob": self.log_prob,
            "probability": self.probability,
            "log_mass": self.log_mass,
            "support": self.support,
            "confidence": self.confidence and confidence_as_dict(self.confidence),
            "uncalibrated": self.uncalibrated,
            "normaliser": self.normaliser,
            "temperature": self.temperature,
            "switch": self.switch,
            "passages": [weighted_as_dict(weighted) for weighted in self.passages],
            "null": None
            if self.null_prior is None
            else {"prior": self.null_prior, "posterior": self.null_posterior},
            "tokens": [
                {
                    "text": token.text,
                    "log_prob": token.log_prob,
                    "responsibility": list(token.responsibility),
                    "null": token.null,
                }
                for token in self.tokens
            ],
            "outside": self.outside,
            "outside_bounds": self.outside_bounds and list(self.outside_bounds),
            "log_bounds": self.log_bounds and list(self.log_bounds),
            "effective_passages": {"prior": self.effective_prior, "posterior": self.effective_posterior},
            "finished": self.finished,
            "certified": self.certified,
            "pruned": self.pruned,
            "shortened": [
                {"passage": s.passage, "kept_tokens": s.kept, "tokens": s.total} for s in self.shortened
            ],
        }


def weighted_as_dict(weighted: WeightedPassage) -> dict[str, Any]:
    """A passage with its weights, as in the JSON contract."""
    return {
        **passage_as_dict(weighted.passage),
        "prior": weighted.prior,
        "posterior": weighted.posterior,
        "inner_product": weighted.inner_product,
    }


def confidence_as_dict(confidence: Confidence) -> dict[str, Any]:
    """A confidence, as in the JSON contract."""
    return {**asdict(confidence), "abstains": confidence.abstains}


def passage_as_dict(passage: Passage) -> dict[str, Any]:
    """A passage, as in the JSON contract."""
    return {
        "id": passage.id,
        "document": passage.document,
        "title": passage.title,
        "start": passage.start,
        "end": passage.end,
        "text": passage.text,
        "metadata": dict(passage.metadata),
    }


def build_answer(
    scored: ScoredAnswer,
    retrieval: Retrieval,
    settings: Settings,
    *,
    certified: bool | None = None,
    found: Sequence[ScoredAnswer] = (),
    judge: Judge | None = None,
    pruned: float = 0.0,
) -> Answer:
    """Gather what there is to say of a scored answer.

    ``found`` are the answers that were found beside it, ``judge`` makes a confidence of their probability,
    ``pruned`` is what was spent of the budget of total variation.
    """
    mixture = scored.mixture
    support = max(retrieval.inner_products.tolist(), default=0.0)
    signals = Signals(log_mass(scored, found), support)
    null = _null_component(mixture)
    prior = mixture.log_prior.exp()
    return Answer(
        question=mixture.question,
        text=scored.text,
        log_prob=scored.log_prob,
        normaliser=settings.normaliser,
        temperature=retrieval.temperature,
        switch=mixture.switch,
        passages=_weighted(retrieval, mixture, scored.posterior),
        tokens=_tokens(scored, null),
        null_prior=None if null is None else float(prior[null]),
        null_posterior=None if null is None else float(scored.posterior[null]),
        outside=retrieval.outside,
        log_bounds=scored.log_bracket,
        finished=scored.finished,
        log_mass=signals.log_mass,
        support=signals.support,
        confidence=judge.confidence(signals) if judge and scored.finished else None,
        uncalibrated=judge.differs if judge else None,
        certified=certified,
        pruned=pruned,
        shortened=tuple(s for component in mixture.components for s in component.prompt.shortened),
        effective_prior=float(effective_number(mixture.log_prior)),
        effective_posterior=float(effective_number(scored.posterior.log())),
        scored=scored,
        outside_bounds=retrieval.outside_bounds,
    )


class TextPieces:
    """The text that each token of an answer adds; the pieces join to the whole text."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._tokens: list[int] = []
        self._shown = ""

    def add(self, token: int, *, last: bool) -> str:
        """The text that appears with this token; a character of several tokens comes with its last one."""
        self._tokens.append(token)
        text = self._generator.text(self._tokens)
        if not text.startswith(self._shown) or (text.endswith("\ufffd") and not last):
            return ""
        piece, self._shown = text[len(self._shown) :], text
        return piece


def holders(mixture: Mixture) -> list[int]:
    """For each passage in order of rank, the component that holds it."""
    return [j for j, component in enumerate(mixture.components) for _ in component.passages]


def _weighted(retrieval: Retrieval, mixture: Mixture, posterior: Tensor) -> tuple[WeightedPassage, ...]:
    prior, products = retrieval.log_prior.exp().tolist(), retrieval.inner_products.tolist()
    return tuple(
        WeightedPassage(passage, prior[i], float(posterior[j]), products[i])
        for i, (passage, j) in enumerate(zip(retrieval.passages, holders(mixture), strict=True))
    )


def _tokens(scored: ScoredAnswer, null: int | None) -> tuple[AnswerToken, ...]:
    shares = scored.responsibilities  # (K, T)
    held = holders(scored.mixture)
    pieces = TextPieces(scored.mixture.generator)
    return tuple(
        AnswerToken(
            text=pieces.add(token, last=t == len(scored.tokens) - 1),
            log_prob=float(scored.token_log_probs[t]),
            responsibility=tuple(float(shares[j, t]) for j in held),
            null=0.0 if null is None else float(shares[null, t]),
        )
        for t, token in enumerate(scored.tokens)
    )


def _null_component(mixture: Mixture) -> int | None:
    return next((j for j, component in enumerate(mixture.components) if not component.passages), None)
