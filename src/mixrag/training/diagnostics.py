"""Is retrieval still alive? Numbers of every step, a window over the last questions, alarms in plain words.

Joint training can collapse: every question gets the same passages, or the language model learns to do without.
Both go unnoticed in the loss, which still falls.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixrag.probability import effective_number, log_normalise

WeightRows = Sequence[Tensor] | Tensor
"""One tensor (K,) of log-weights for each of B questions; K may differ."""
Passages = Sequence[Sequence[str | None]]
"""Passage ids of each question's components; None: the component without a passage."""

ENOUGH_QUESTIONS = 32
"""Different questions before a share or a mean over them says anything: its standard error is then below 0.09."""
SAME_RETRIEVALS = 1.5
"""Fewer different retrievals than this are nearer to one for all than to two."""
LOST_RETRIEVALS = 0.1
"""Share of the different retrievals at the beginning. Learning raises their number: a tenth is a collapse."""
TWO_RETRIEVALS = 2.0
"""Where there never were two different retrievals, as in a corpus of one passage, none can be lost."""
NO_DIFFERENCE = 1e-3
"""Nats: KL of two passages of equal prior when one makes the answer 9 % more probable than the other."""
POINT = 1.05
"""Effective passages. Below it one passage has 99 % of the prior; KL is then small for want of a choice."""
HALF = 0.5
"""A prior that is a point, on wrong passages: half of the questions that had their answer have lost it."""
CLEAR = 1.25
"""An alarm ends a quarter above its threshold, so that a value that wavers there raises it only once."""


def step_diagnostics(
    log_prior: WeightRows, log_posterior: WeightRows, passages: Passages, gold_found: Sequence[bool] | None
) -> dict[str, float]:
    """Measurements of retrieval in the batch: means over its B questions.

    effective_prior, effective_posterior: e^H, effective number of passages;
    kl: KL(posterior ‖ prior) in nats, the prior normalised over the K retrieved;
    largest_share: the largest share of the batch's prior mass on one passage;
    gold_found: share of questions whose gold answer occurs in a retrieved passage (absent if None is given).
    """
    usages = _usages(log_prior, log_posterior, passages, gold_found)
    if not usages:
        return {}
    mean = _mean_shares([usage.shares for usage in usages])
    values = {
        "effective_prior": _mean([usage.effective_prior for usage in usages]),
        "effective_posterior": _mean([_effective(row) for row in log_posterior]),
        "kl": _mean([usage.kl for usage in usages]),
        "largest_share": max(mean.values(), default=0.0),
    }
    return values if gold_found is None else values | {"gold_found": _mean([float(found) for found in gold_found])}


@dataclass(frozen=True, slots=True)
class Usage:
    """What one question was given."""

    shares: Mapping[str, float]
    """Prior by passage; what the component without a passage has is missing from their sum."""
    effective_prior: float
    kl: float
    """KL(posterior ‖ prior), nats."""
    found: bool | None
    """Whether a gold answer occurs in a retrieved passage; None: not known."""


@dataclass
class UsageWindow:
    """The last ``size`` different questions, each with what it was last given.

    A question that comes again replaces its former entry: the same question twice is not a sign of collapse.
    """

    size: int = 256
    seen: int = 0
    """Questions so far, repeated ones included."""
    first_specific: float = 0.0
    """Highest ``specific`` until the window was full for the first time; a collapse before that still shows."""
    first_found: float | None = None
    """``found`` when there were enough questions for the first time."""
    raised: set[str] = field(default_factory=set)
    """Alarms that have been raised and have not cleared."""
    usages: dict[str, Usage] = field(default_factory=dict)
    """By question, the latest last."""

    def add(
        self,
        questions: Sequence[str],
        log_prior: WeightRows,
        log_posterior: WeightRows,
        passages: Passages,
        gold_found: Sequence[bool] | None = None,
    ) -> None:
        """Take in a batch; arguments as of ``step_diagnostics``."""
        filling = self.seen < self.size
        for question, usage in zip(
            questions, _usages(log_prior, log_posterior, passages, gold_found), strict=True
        ):
            self.usages.pop(question, None)
            self.usages[question] = usage
            self.seen += 1
        for question in list(self.usages)[: -self.size]:
            del self.usages[question]
        if filling and self._many:
            self.first_specific = max(self.first_specific, self.specific)
        if self.first_found is None and self._enough:
            self.first_found = self.found

    @property
    def used(self) -> float:
        """e^H of the questions' mean prior: the effective number of passages in use."""
        return math.exp(_entropy(_mean_shares(self._shares)))

    @property
    def specific(self) -> float:
        """e^I, I the mutual information of question and passage: the effective number of different retrievals.

        1 where every question gets the same passages; the number of questions where no two share one.
        """
        information = _entropy(_mean_shares(self._shares)) - _mean([_entropy(each) for each in self._shares])
        return math.exp(max(0.0, information))

    @property
    def found(self) -> float | None:
        """Share of questions whose gold answer occurs in a retrieved passage; None where it is not known."""
        known = [float(usage.found) for usage in self.usages.values() if usage.found is not None]
        return _mean(known) if known else None

    def summary(self) -> dict[str, float]:
        """``used`` and ``specific`` for the metrics; empty without questions."""
        return {"used": self.used, "specific": self.specific} if self.usages else {}

    def alarms(self) -> list[str]:
        """Alarms that are new: each comes once until it has cleared."""
        margins = {"collapse": self._collapse(), "ignored": self._ignored(), "point": self._point()}
        new = [name for name, margin in margins.items() if margin < 1 and name not in self.raised]
        self.raised = {name for name in self.raised if margins[name] < CLEAR} | set(new)
        return [self._words(name) for name in new]

    def state(self) -> dict[str, Any]:
        """The window as JSON."""
        usages = [[question, asdict(usage)] for question, usage in self.usages.items()]
        return {**vars(self), "raised": sorted(self.raised), "usages": usages}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> UsageWindow:
        """The window that ``state`` described."""
        usages = {question: Usage(**usage) for question, usage in state["usages"]}
        return cls(**{**state, "raised": set(state["raised"]), "usages": usages})

    @property
    def _shares(self) -> list[Mapping[str, float]]:
        """Each question's prior over passages alone; questions without any are left out."""
        totals = [(usage.shares, sum(usage.shares.values())) for usage in self.usages.values()]
        return [{name: share / total for name, share in shares.items()} for shares, total in totals if total > 0]

    @property
    def _many(self) -> bool:
        return len(self.usages) >= ENOUGH_QUESTIONS

    @property
    def _enough(self) -> bool:
        """With few pairs there never are many questions; then a window full of repetitions has to do."""
        return self._many or self.seen >= self.size

    @property
    def _effective(self) -> float:
        return _mean([usage.effective_prior for usage in self.usages.values()])

    @property
    def _kl(self) -> float:
        return _mean([usage.kl for usage in self.usages.values()])

    # Margins: how far a value is above its alarm's threshold, as a ratio; below 1 the alarm is raised.

    def _collapse(self) -> float:
        if self.first_specific < TWO_RETRIEVALS:  # also where there never were enough questions
            return math.inf
        return self.specific / max(SAME_RETRIEVALS, LOST_RETRIEVALS * self.first_specific)

    def _ignored(self) -> float:
        return self._kl / NO_DIFFERENCE if self._enough and self._effective >= POINT else math.inf

    def _point(self) -> float:
        if not self._enough or not self.first_found or self.found is None:
            return math.inf
        return max(self._effective / POINT, self.found / (HALF * self.first_found))

    def _words(self, alarm: str) -> str:
        count = f"the last {len(self.usages)} different questions"
        if alarm == "collapse":
            return (
                f"retrieval has collapsed: every question gets the same passages. {count.capitalize()} have"
                f" {self.specific:.1f} different retrievals, {self.first_specific:.1f} at the beginning;"
                " begin again with a lower --encoder-rate or --scalar-rate, or without training the encoder"
            )
        if alarm == "ignored":
            return (
                f"the language model ignores the passages: over {count} the answer changes their weights by"
                f" {self._kl:.1g} nats on average (KL of posterior and prior), so the retriever cannot learn;"
                " check whether the passages hold the answers, or lower --learning-rate"
            )
        return (
            f"the prior has become a point, on wrong passages: over {count} it has {self._effective:.2f} effective"
            f" passages, and {self.found:.0%} of them have the gold answer in a passage, at the beginning"
            f" {self.first_found:.0%}; begin again with a lower --encoder-rate or --scalar-rate"
        )


def _usages(
    log_prior: WeightRows, log_posterior: WeightRows, passages: Passages, gold_found: Sequence[bool] | None
) -> list[Usage]:
    found: Sequence[bool | None] = [None] * len(passages) if gold_found is None else gold_found
    rows = zip(log_prior, log_posterior, passages, found, strict=True)
    return [_usage(*row) for row in rows]


def _usage(log_prior: Tensor, log_posterior: Tensor, ids: Sequence[str | None], found: bool | None) -> Usage:
    prior = log_normalise(log_prior.detach().double(), -1)
    posterior = log_normalise(log_posterior.detach().double(), -1)
    shares: Counter[str] = Counter()
    for name, weight in zip(ids, prior.exp().tolist(), strict=True):
        if name is not None:
            shares[name] += weight
    return Usage(dict(shares), _effective(prior), _divergence(posterior, prior), found)


def _effective(log_weights: Tensor) -> float:
    return float(effective_number(log_weights.detach().double()))


def _divergence(log_p: Tensor, log_q: Tensor) -> float:
    """KL(p ‖ q) in nats; entries without mass under p add nothing. Rounding never makes it negative."""
    terms = torch.where(log_p == -math.inf, torch.zeros_like(log_p), log_p.exp() * (log_p - log_q))
    return max(0.0, float(terms.sum()))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _mean_shares(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row)
    return {name: share / len(rows) for name, share in total.items()}


def _entropy(shares: Mapping[str, float]) -> float:
    """In nats."""
    return -math.fsum(share * math.log(share) for share in shares.values() if share > 0)
