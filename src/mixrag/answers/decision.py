"""A decision between given labels, by the mixture of the passages: each label is scored as a full answer.

p(label | x) = Σ_j π_j p(label | x, z_j) is exact, of every label, in one reading of the K prompts; at a switch
above 0 it is the sum over all ways in which the passages can take turns (``probability.switching``). Nothing is
written, so nothing can be parsed wrongly, and what is outside the labels has a number: 1 less their mass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mixrag.answers.answer import EMPTY_THRESHOLD, shortened_to_dict, unstated_by, weighted_passages
from mixrag.answers.fields import AnswerPassage
from mixrag.config.settings import Settings, SwitchAt
from mixrag.errors import QuestionError
from mixrag.generator import Generator, Shortened
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.yes_no import NO, YES
from mixrag.probability import log_normalise, log_sum
from mixrag.retrieval.retriever import Retrieval
from mixrag.utils.arguments import list_given
from mixrag.utils.text import finite, is_unicode

PREDICATE = (YES, NO)
"""The labels of a question that is true or false of the documents."""


@dataclass(frozen=True, slots=True)
class DecidedLabel:
    """One of the labels, with its probability and the passages behind it."""

    label: str
    probability: float | None
    """p(label | question, one of the labels): its own probability divided by the sum over all labels; None where
    that sum is 0."""
    log_prob: float
    """log p(label, and its end | question) in nats, as ``Answer.log_prob``: not divided by the labels' sum."""
    log_bounds: tuple[float, float] | None
    """Bounds on ``log_prob`` under the mixture of all passages; None as ``Answer.log_bounds``."""
    posterior: tuple[float, ...]
    """For each passage, the posterior of its component given this label, as ``AnswerPassage.posterior``; all 0
    for a label that has probability 0."""
    null_posterior: float | None
    """The same for the null component; None where there is none."""


@dataclass(frozen=True)
class Decision:
    """What a question's labels are worth, given the documents."""

    question: str
    labels: tuple[DecidedLabel, ...]
    """In the order in which they were given."""
    log_mass: float
    """log Σ p(label | question) over the labels, in nats: how much the model thought of them at all. -inf where it
    thought of none, and there is no ``probability``. With ``empty_answer`` given that an answer is stated."""
    passages: tuple[AnswerPassage, ...]
    """In order of rank; ``posterior`` is given that one of the labels is the answer."""
    null_prior: float | None
    """Prior of the null component, as retrieved; None where there is none."""
    null_posterior: float | None
    """Its posterior, given that one of the labels is the answer."""
    p_empty: float | None
    """p(∅ | question), as ``Answer.p_empty``: that the passages state no answer. None without ``empty_answer``."""
    p_empty_within: float | None
    """As ``Answer.p_empty_within``."""
    certified: bool
    """True where the passages that are not listed cannot change which label is most probable, ``rounding``
    included. False where that is not known, and where several labels are equally probable."""
    outside: float | None
    """Prior mass of all passages not listed, as ``Answer.outside``."""
    shortened: tuple[Shortened, ...]
    """Passages that the model could not read to their end."""
    normaliser: str
    temperature: float
    switch: float
    switch_at: SwitchAt
    question_likelihood: float
    rounding: float | None
    """As ``Answer.rounding``."""
    notices: tuple[str, ...] = ()
    """As ``Answer.notices``."""

    @property
    def mass(self) -> float:
        """Σ p(label | question) over the labels."""
        return math.exp(self.log_mass)

    @property
    def best(self) -> DecidedLabel:
        """The most probable label; the first of equally probable ones."""
        return max(self.labels, key=lambda each: each.log_prob)

    @property
    def label(self) -> str | None:
        """The text of the most probable label; None where the model thought of none (``mass`` is 0)."""
        return None if self.log_mass == -math.inf else self.best.label

    @property
    def probability(self) -> float | None:
        """p(the most probable label | question, one of the labels); None where ``mass`` is 0."""
        return self.best.probability

    @property
    def expected(self) -> float | None:
        """Σ probability · number, where all labels are numbers ("1" to "5"): a score; None elsewhere, and where
        ``mass`` is 0.
        """
        weighed = [(each.probability, _number(each.label)) for each in self.labels]
        known = [(share, number) for share, number in weighed if share is not None and number is not None]
        return math.fsum(share * number for share, number in known) if len(known) == len(weighed) else None

    @property
    def seems_unstated(self) -> bool:
        """True where, as probably as not, the passages state no answer at all: ``p_empty_within`` reaches ½."""
        return self.p_empty_within is not None and self.p_empty_within >= EMPTY_THRESHOLD

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract of ``mixrag decide --json`` (docs/reference/json.md)."""
        own = ("log_mass", "p_empty", "p_empty_within", "seems_unstated", "certified", "outside", "normaliser")
        more = ("temperature", "switch", "switch_at", "question_likelihood", "rounding")
        null = {"prior": self.null_prior, "posterior": self.null_posterior}
        document = {
            "question": self.question,
            "label": self.label,
            "probability": self.probability,
            "expected": self.expected,
            "labels": [{**asdict(each), "mass": math.exp(each.log_prob)} for each in self.labels],
            "mass": self.mass,
            **{name: getattr(self, name) for name in (*own, *more)},
            "passages": [asdict(each) for each in self.passages],
            "null": None if self.null_prior is None else null,
            "shortened": shortened_to_dict(self.shortened),
            "notices": list(self.notices),
        }
        found: dict[str, Any] = finite(document)
        return found

    def __repr__(self) -> str:
        """Each label with its probability, and their mass."""
        shares = ((each.label, each.probability) for each in self.labels)
        shown = ", ".join(f"{label!r}: {'none' if share is None else f'{share:.4g}'}" for label, share in shares)
        return f"Decision({shown}; mass={self.mass:.4g}, {len(self.passages)} passages)"


def checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, if a decision can be made between them.

    Raises:
        QuestionError: fewer than two, one twice, or one that is no text.
        SettingError: no list.
    """
    found = list_given(labels, "labels")
    if len(found) < 2:
        raise QuestionError("at least two labels", f"{len(found)}", "give all that the answer may be: yes no")
    for each in found:
        if not isinstance(each, str) or not each.strip() or not is_unicode(each):
            raise QuestionError("a text as each label", repr(each)[:60], "give words, such as yes and no")
    return tuple(found)


def label_tokens(generator: Generator, labels: Sequence[str]) -> list[tuple[int, ...]]:
    """Token ids of each label as a full answer.

    Raises:
        QuestionError: two labels are one answer.
    """
    found: dict[tuple[int, ...], str] = {}
    for label in labels:
        tokens = generator.answer_tokens(label)
        if tokens in found:
            raise QuestionError("labels that differ", f"{found[tokens]!r} and {label!r}"[:80], "leave one out")
        found[tokens] = label
    return [*found]


def decision(mixture: Mixture, retrieval: Retrieval, settings: Settings, labels: Sequence[str]) -> Decision:
    """The decision between the labels under a mixture.

    Raises:
        QuestionError: two labels are one answer.
    """
    scored = mixture.score_all(label_tokens(mixture.generator, labels))
    log_probs = torch.tensor([each.log_prob for each in scored], dtype=torch.float64)
    log_mass = min(0.0, float(log_sum(log_probs, 0)))
    none = log_mass == -math.inf
    shares = torch.zeros_like(log_probs) if none else log_normalise(log_probs, 0).exp()
    # p(z | x, one of the labels) = Σ p(label | x, one of them) p(z | x, label)
    posteriors = torch.stack([each.posterior.nan_to_num(nan=0.0) for each in scored])
    posterior = (shares[:, None] * posteriors).sum(0)
    null, places = mixture.null_component, mixture.component_of_passage
    decided = [
        DecidedLabel(
            label=label,
            probability=None if none else float(share),
            log_prob=each.log_prob,
            log_bounds=each.log_bracket,
            posterior=tuple(float(own[j]) for j in places),
            null_posterior=None if null is None else float(own[null]),
        )
        for label, share, each, own in zip(labels, shares, scored, posteriors, strict=True)
    ]
    p_empty, p_empty_within, _ = unstated_by(mixture)
    return Decision(
        question=mixture.question,
        labels=tuple(decided),
        log_mass=log_mass,
        passages=weighted_passages(retrieval, mixture, posterior),
        null_prior=None if null is None else float(mixture.unconditioned_log_prior[null].exp()),
        null_posterior=None if null is None else float(posterior[null]),
        p_empty=p_empty,
        p_empty_within=p_empty_within,
        certified=not none and _leads(scored),
        outside=retrieval.outside,
        shortened=tuple(each for component in mixture.components for each in component.prompt.shortened),
        normaliser=settings.normaliser,
        temperature=retrieval.temperature,
        switch=mixture.switch,
        switch_at=mixture.switch_at,
        question_likelihood=mixture.question_likelihood,
        rounding=mixture.stated_rounding,
        notices=retrieval.notices,
    )


def _leads(scored: Sequence[ScoredAnswer]) -> bool:
    best = max(scored, key=lambda each: each.log_prob)
    return all(best.certainly_beats(each) for each in scored if each is not best)


def _number(label: str) -> float | None:
    try:
        found = float(label)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
