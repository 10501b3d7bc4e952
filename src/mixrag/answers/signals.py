"""What a confidence is computed from: signals of an answer, and the features that a fitted map weighs.

Every feature has a sign (``FEATURES``): a fit may give it only weights of that sign, so that more probability of
the answer never lowers a confidence and more probability of the empty answer never raises one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixrag.answers.word_overlap import labels_stated, overlap, sentence_overlaps
from mixrag.inference.mixture import ScoredAnswer
from mixrag.pairs.matching import normalise

Form = Literal["yes-no", "number", "text"]
LARGEST_LOG_ODDS = 30.0
"""Probabilities nearer to 0 or 1 than e^-30 count as that."""
LARGEST_EMPTY_ODDS = 7.0
"""p(∅ | x) nearer to 0 or 1 than one in a thousand counts as that: a fit should not reach for its tail."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What a confidence is computed from. None: not known, as in records of an earlier version."""

    log_mass: float
    """log Σ p(y | x) over the answers found that are equal once normalised, in nats, given that something is
    answered."""
    support: float
    """Largest inner product of the question with a retrieved passage; 0 where none was retrieved."""
    p_empty: float = 0.0
    """p(∅ | x), the probability of the empty answer; 0 where the reader has none."""
    entropy: float | None = None
    """Entropy of the posterior over components, in nats."""
    best_prior: float | None = None
    """Prior, as retrieved, of the component with the largest posterior."""
    tokens: int | None = None
    """Tokens of the answer, its end included."""
    form: Form = "text"
    """What kind of text the answer is."""
    overlap: float | None = None
    """Share of the question's content words that the passages of the component with the largest posterior have."""
    agreement: float = 0.0
    """A = min_g p_g(y | x) / max_g p_g(y | x) of the written answer y, p_g being the mixture of passages with
    generator g alone, given that something is answered: 1 where all generators give it the same probability, 0
    where one gives it none, or there is but one."""
    most_empty: float | None = None
    """max_g p_g(∅ | x), p_g as for ``agreement``; None of one generator, and without an empty answer."""
    sentence: float | None = None
    """Share of the question's content words in the sentence that has the answer (the best of them), in the
    passages of that component; 0 where none has it."""
    best_sentence: float | None = None
    """The largest such share of any sentence there, with the answer or without."""
    labels: float | None = None
    """Share of the question's numbers and letters ("2021", "class D") that the passages of that component have."""


FEATURES: Mapping[str, int] = {
    "plain": 1,
    "mass": 1,
    "mass_yes_no": 1,
    "yes_no": 0,
    "number": 0,
    "length": 0,
    "spread": -1,
    "best_prior": 1,
    "answered": 1,
    "answered_by_all": 1,
    "support": 1,
    "overlap": 1,
    "agreement": 1,
    "sentence": 1,
    "shortfall": -1,
    "labels": 1,
}
"""By name the sign that a weight may have; 0: either.

plain: log-odds of p(y | x) = mass · (1 - p(∅ | x)); mass: log-odds of the mass, mass_yes_no the same of answers
that are yes or no, whose mass has only two answers to be split between; yes_no, number: 1 for answers of that
form; length: log of the tokens; spread: the entropy; answered: log-odds of 1 - p(∅ | x); answered_by_all: the same
of the generator that gives ∅ the most; agreement: A itself, not its logarithm, which has no least value where one
generator cannot write the answer at all; shortfall: best_sentence - sentence, how much better another sentence
suits the question than the one that has the answer. Yes and no are in no sentence: of them sentence and shortfall
are 0."""


def features(signals: Signals) -> dict[str, float]:
    """The features by name; those of signals that are not known are left out."""
    odds, yes_no = log_odds(signals.log_mass), signals.form == "yes-no"
    log_answered = _log_answered(signals.p_empty)
    own, best = signals.sentence, signals.best_sentence
    shortfall = None if own is None or best is None else best - own
    found: dict[str, float | None] = {
        "plain": log_odds(signals.log_mass + log_answered),
        "mass": 0.0 if yes_no else odds,
        "mass_yes_no": odds if yes_no else 0.0,
        "yes_no": float(yes_no),
        "number": float(signals.form == "number"),
        "length": None if signals.tokens is None else math.log(max(1, signals.tokens)),
        "spread": signals.entropy,
        "best_prior": signals.best_prior,
        "answered": _answered_odds(signals.p_empty),
        "answered_by_all": None if signals.most_empty is None else _answered_odds(signals.most_empty),
        "support": signals.support,
        "overlap": signals.overlap,
        "agreement": signals.agreement,
        "sentence": 0.0 if yes_no else own,
        "shortfall": 0.0 if yes_no else shortfall,
        "labels": signals.labels,
    }
    return {name: value for name, value in found.items() if value is not None}


def _log_answered(p_empty: float) -> float:
    return math.log1p(-p_empty) if p_empty < 1.0 else -math.inf


def _answered_odds(p_empty: float) -> float:
    return max(-LARGEST_EMPTY_ODDS, min(LARGEST_EMPTY_ODDS, log_odds(_log_answered(p_empty))))


def form_of(text: str) -> Form:
    """Yes or no, a text with a digit, or another text.

    >>> form_of("Yes."), form_of("48 hours"), form_of("the harbour office")
    ('yes-no', 'number', 'text')
    """
    if normalise(text) in ("yes", "no"):
        return "yes-no"
    return "number" if any(character.isdigit() for character in text) else "text"


def agreement(by_generator: Sequence[float]) -> float:
    """min / max of the probabilities that several generators give to an answer (G,), from their logs in nats.

    0 of fewer than two generators, and where none gives it any.

    >>> round(agreement([math.log(0.6), math.log(0.3)]), 6), agreement([-1.0])
    (0.5, 0.0)
    """
    if len(by_generator) < 2 or max(by_generator) == -math.inf:
        return 0.0
    return math.exp(min(by_generator) - max(by_generator))


def log_mass(answer: ScoredAnswer, found: Sequence[ScoredAnswer]) -> float:
    """log Σ p(y | x) over ``answer`` and the distinct answers found that are equal to it once normalised."""
    text = normalise(answer.text)
    same = {each.tokens: each.log_prob for each in found if normalise(each.text) == text}
    logs = [*{**same, answer.tokens: answer.log_prob}.values()]
    return min(0.0, float(np.logaddexp.reduce(logs)))


def signals_of(
    scored: ScoredAnswer,
    found: Sequence[ScoredAnswer],
    support: float,
    p_empty: float,
    by_generator: Sequence[float] = (),
    empty_by_generator: Sequence[float | None] = (),
) -> Signals:
    """The signals of an answer.

    ``found`` are the decoder's further answers; ``by_generator`` (G,) is log p_g(y | x) by each generator g of a
    mixture of several, ``empty_by_generator`` (G,) its p_g(∅ | x).
    """
    mixture = scored.mixture
    posterior = scored.posterior
    best = int(posterior.argmax())
    passages = mixture.components[best].passages
    sentence, best_sentence = sentence_overlaps(mixture.question, scored.text, passages)
    return Signals(
        log_mass=log_mass(scored, found),
        support=support,
        p_empty=p_empty,
        entropy=entropy(posterior.tolist()),
        best_prior=float(mixture.unconditioned_log_prior[best].exp()),
        tokens=len(scored.tokens),
        form=form_of(scored.text),
        overlap=overlap(mixture.question, passages),
        agreement=agreement(by_generator),
        most_empty=max((each for each in empty_by_generator if each is not None), default=None),
        sentence=sentence,
        best_sentence=best_sentence,
        labels=labels_stated(mixture.question, passages),
    )


def entropy(probabilities: Sequence[float]) -> float:
    """-Σ p log p, in nats; 0 of none."""
    return -sum(p * math.log(p) for p in probabilities if p > 0.0) + 0.0


def log_odds(log_probability: float) -> float:
    """log p / (1 - p), from log p; within ±``LARGEST_LOG_ODDS``."""
    if log_probability >= 0.0:
        return LARGEST_LOG_ODDS
    odds = log_probability - math.log(-math.expm1(log_probability))
    return max(-LARGEST_LOG_ODDS, min(LARGEST_LOG_ODDS, odds))


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
