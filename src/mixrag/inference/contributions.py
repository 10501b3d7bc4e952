"""What each of two generators contributes to an answer that a mixture of both gives; no language model runs.

The extractive generator's probabilities are at hand for any answer. The language model's are what is left of the
mixture's, which the scored answer has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.generator.mixed import NAMES, MixedGenerator, prompts_of
from mixrag.inference.empty_answer import EmptyAnswers, log_answered_table, read_prompts
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.probability import (
    log_answered_prior,
    log_difference,
    log_empty_probability,
    log_marginal,
    log_other_tokens,
)


@dataclass(frozen=True, slots=True)
class Contribution:
    """One generator's part in an answer y."""

    log_prob: float
    """log p_g(y | x) in nats, of the mixture of passages with this generator alone; with an ``empty_answer`` given
    that it answers."""
    share: float
    """Σ_j p(z_j | x, y) p(g | x, z_j, y): at switch 0 the posterior p(g | x, y) that it wrote the answer. The
    shares of both add up to one."""
    p_empty: float | None = None
    """p_g(∅ | x), the probability of the empty answer in that mixture; None without one."""

    @property
    def probability(self) -> float:
        """p_g(y | x)."""
        return float(torch.tensor(self.log_prob, dtype=torch.float64).exp())


def contributions(scored: ScoredAnswer) -> Mapping[str, Contribution] | None:
    """By the names of the two generators; None where there is but one."""
    mixture, tokens = scored.mixture, scored.tokens
    generator = mixture.generator
    if not isinstance(generator, MixedGenerator) or not tokens:
        return None
    weight, other = generator.log_weights[1], generator.log_weights[0]
    _, prompts = prompts_of([component.prompt for component in mixture.components])
    empty, spans = read_prompts(generator.extractive, prompts, tokens)
    mixed = _unconditioned(scored)
    model = log_other_tokens(mixed, spans, weight, other)
    read = (_other_empty(mixture, empty, weight, other), empty)
    log_probs = [_log_prob(scored, each, own) for each, own in zip((model, spans), read, strict=True)]
    extracted = (weight + spans.sum(-1) - mixed.sum(-1)).nan_to_num(nan=-torch.inf).clamp(max=0.0).exp()
    posterior = scored.posterior
    share = min(1.0, float((posterior * extracted).sum() / posterior.sum())) if float(posterior.sum()) else 0.5
    empties = [_p_empty(mixture, own) if mixture.log_empty is not None else None for own in read]
    found = zip(log_probs, (1.0 - share, share), empties, strict=True)
    return {name: Contribution(*each) for name, each in zip(NAMES, found, strict=True)}


def _unconditioned(scored: ScoredAnswer) -> Tensor:
    """(K, T) the mixture's likelihoods of the answer, not given that something is answered."""
    table, answered = scored.log_likelihood.double().clone(), scored.mixture.log_answered
    if answered is not None:
        table[:, 0] += answered.masked_fill(answered == -torch.inf, 0.0)
    return table


def _other_empty(mixture: Mixture, empty: EmptyAnswers, weight: Tensor, other: Tensor) -> EmptyAnswers | None:
    """What the language model gives to ∅ and to all else."""
    if mixture.log_empty is None or mixture.log_answered is None:
        return None
    pairs = ((mixture.log_empty, empty.log_empty), (mixture.log_answered, empty.log_answered))
    return EmptyAnswers(*(log_difference(both, weight + one) - other for both, one in pairs))


def _p_empty(mixture: Mixture, empty: EmptyAnswers | None) -> float | None:
    if empty is None:
        return None
    return min(1.0, math.exp(float(log_empty_probability(mixture.reweighted_log_prior, empty.log_empty))))


def _log_prob(scored: ScoredAnswer, table: Tensor, empty: EmptyAnswers | None) -> float:
    """log p_g(y | x) of one generator from its likelihoods (K, T)."""
    mixture, prior = scored.mixture, scored.mixture.reweighted_log_prior
    if mixture.log_answered is not None and empty is not None:
        prior = log_answered_prior(prior, empty.log_answered)
        stops = torch.tensor(sorted(mixture.generator.stop_tokens), dtype=torch.long)
        table = log_answered_table(table, scored.tokens, empty.log_answered, stops)
    return float(log_marginal(prior, table, mixture.switch))
