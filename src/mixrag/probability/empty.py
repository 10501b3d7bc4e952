"""The empty answer ∅: the probability that nothing is stated, and the mixture given that something is.

Every component gives the empty answer a probability at the first token, a_j = 1 - p(∅ | x, z_j) to all others:

    p(∅ | x) = Σ_j π_j p(∅ | x, z_j),    p(y | x, ≠∅) = p(y | x) / (1 - p(∅ | x))    for y ≠ ∅

Given that something is answered the model is a switching mixture again, with the prior and the likelihood

    π'_j = p(z_j | x, ≠∅) = π_j a_j / Σ_i π_i a_i,    e'_1(j) = e_1(j) / a_j,    e'_t(j) = e_t(j) for t > 1

so that π'_j e'_1(j) = π_j e_1(j) / (1 - p(∅ | x)), and a component that states nothing gives its weight away. The
first token decides between ∅ and an answer. A passage that is drawn again later (``switch`` ρ > 0) is drawn from
π', since something is being answered by then:

    α'_1(j) = π'_j e'_1(j),    α'_t+1(j) = [(1-ρ) α'_t(j) + ρ π'_j Σ_i α'_t(i)] e_t+1(j)

Every function of ``switching``, ``posterior`` and ``bounds`` therefore holds given ≠∅, with π' and e' in place of
π and e. Shapes and symbols as in ``switching``; where a_j = 0 for all j nothing is defined given ≠∅, and -inf.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_sum, log_sum_others


def split_first_token(log_probs: Tensor, stop_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """log p(∅ | x, z) and log a = log(1 - p(∅ | x, z)) from distributions of the first token (*B, V).

    Args:
        log_probs: (*B, V) normalised.
        stop_tokens: (S,) the ids of the tokens that end an answer: as the first token they make it empty.

    Returns:
        Two of shape (*B,), float64: sums over the stop tokens and over all others, so that neither loses its
        digits where it is small.

    Example:
        >>> empty, answered = split_first_token(torch.tensor([0.2, 0.5, 0.3]).log(), torch.tensor([2]))
        >>> round(float(empty.exp()), 4), round(float(answered.exp()), 4)
        (0.3, 0.7)
    """
    log_probs, stop_tokens = log_probs.double(), stop_tokens.to(log_probs.device)
    others = log_probs.index_fill(-1, stop_tokens, NEG_INF)
    # A sum of float32 probabilities may exceed one by rounding.
    return log_sum(log_probs[..., stop_tokens], -1).clamp(max=0.0), log_sum(others, -1).clamp(max=0.0)


def log_empty_probability(log_prior: Tensor, log_empty: Tensor) -> Tensor:
    """log p(∅ | x), shape (*B,), from π and log p(∅ | x, z_j), both (*B, K).

    Of a truncated prior it is the part of these components: the others can add at most their mass
    (``empty_bounds``).
    """
    return log_sum(log_prior + log_empty, -1)


def log_empty_within(log_prior: Tensor, log_empty: Tensor) -> Tensor:
    """log p(∅ | x, z among these components), shape (*B,): their p(∅ | x) divided by the total of their prior.

    The same for a truncated prior and for one that was divided by its total.
    """
    return log_empty_probability(log_prior, log_empty) - log_sum(log_prior, -1).clamp(min=_LEAST)


def empty_bounds(log_prior: Tensor, log_empty: Tensor, outside: Tensor | float) -> tuple[Tensor, Tensor]:
    """Lower and upper bound on p(∅ | x) of the full mixture, both (*B,) probabilities.

    Of what is outside, with mass ε under the full prior, anything from nothing to all may be empty: with E of
    ``log_empty_within`` the bounds are (1-ε) E and (1-ε) E + ε, whatever the total of ``log_prior``.

    Example:
        >>> half, sure = torch.tensor([0.5]).log(), torch.tensor([0.9]).log()
        >>> [round(float(bound), 4) for bound in empty_bounds(half, sure, 0.5)]
        [0.45, 0.95]
    """
    outside = torch.as_tensor(outside, dtype=torch.float64, device=log_prior.device)
    lower = (1.0 - outside) * log_empty_within(log_prior.double(), log_empty.double()).exp().clamp(max=1.0)
    return lower, (lower + outside).clamp(max=1.0)


def log_answered_prior(log_prior: Tensor, log_answered: Tensor) -> Tensor:
    """log π'_j = log p(z_j | x, ≠∅), shape (*B, K), from π and log a_j (*B, K).

    Of a truncated prior, with mass ε outside, this is π_j a_j / (A + ε) with A = Σ_j π_j a_j: no more than the
    true one, since of what is outside at most all is answered. Its total is 1 - ε' (``answered_outside``).
    """
    joint = log_prior + log_answered
    total = log_sum(torch.stack([log_sum(joint, -1), log_missing(log_prior)]), 0).unsqueeze(-1)
    return torch.where(joint == NEG_INF, torch.full_like(joint, NEG_INF), joint - total.clamp(min=_LEAST))


def log_answered_likelihood(log_likelihood: Tensor, log_answered: Tensor, mask: Tensor | None = None) -> Tensor:
    """log e'_t(j), shape (*B, K, T): the first token of an answer divided by a_j, the others as they are.

    The answer must not begin with a stop token. Where a_j = 0 the first token stays as impossible as it is.
    """
    if log_likelihood.shape[-1] == 0:
        return log_likelihood
    if mask is None:
        first = torch.zeros(log_likelihood.shape[-1], dtype=torch.bool, device=log_likelihood.device)
        first[0] = True
    else:
        first = mask & (mask.cumsum(-1) == 1)
    divisor = log_answered.masked_fill(log_answered == NEG_INF, 0.0).unsqueeze(-1)
    return torch.where(first.unsqueeze(-2), log_likelihood - divisor, log_likelihood)


def log_answered_rows(log_probs: Tensor, log_answered: Tensor, stop_tokens: Tensor) -> Tensor:
    """Distributions of the first token given ≠∅, (R, V) from (R, V): no stop token, the others divided by a.

    A row with a = 0 has no such distribution, and stays as it is: its weight π' is zero.
    """
    certain = (log_answered == NEG_INF).unsqueeze(-1)
    others = log_probs.index_fill(-1, stop_tokens.to(log_probs.device), NEG_INF)
    divided = others - log_answered.unsqueeze(-1).masked_fill(certain, 0.0)
    return torch.where(certain, log_probs, divided.to(log_probs.dtype))


def answered_outside(log_prior: Tensor, log_answered: Tensor, outside: Tensor | float) -> Tensor:
    """ε' = ε / (A + ε): bound on the mass, given ≠∅, of the components left out; shape (*B,), a probability.

    A is Σ_j π_j a_j under the *full* prior, whose share of these components is 1 - ε, whatever the total of
    ``log_prior``. The true mass is B / (A + B), where B ≤ ε is what the others answer. All statements of
    ``bounds`` hold with ε' as the mass dropped: they grow weaker as that mass grows.
    """
    outside = torch.as_tensor(outside, dtype=torch.float64, device=log_prior.device)
    joint, total = log_sum((log_prior + log_answered).double(), -1), log_sum(log_prior.double(), -1)
    log_answered_part = torch.log1p(-outside) + joint - total.clamp(min=_LEAST)
    odds = outside.log() - log_answered_part
    return torch.where(outside == 0.0, torch.zeros_like(odds), torch.sigmoid(odds))


def answered_poisoning(log_prior: Tensor, log_answered: Tensor) -> Tensor:
    """π_j / (π_j + Σ_{i≠j} π_i a_i): the largest π'_j that passage j can have whatever its text; (*B, K).

    Its text decides how much of its weight it gives away, so ``bounds.poisoning_tv`` of this mass, not of π'_j,
    bounds what rewriting the passage does to the distribution of answers given ≠∅. What a truncated prior leaves
    out counts as answering nothing, which is the worst.
    """
    others = log_sum_others(log_prior + log_answered, -1)
    certain = log_prior == NEG_INF
    return torch.where(certain, torch.zeros_like(log_prior), torch.sigmoid(log_prior - others.clamp(min=_LEAST)))


def log_missing(log_prior: Tensor) -> Tensor:
    """(*B,) log(1 - Σ π): the mass outside a truncated prior; a total of one up to rounding has none."""
    missing = -torch.expm1(log_sum(log_prior, -1).detach())
    rounding = 8 * log_prior.shape[-1] * torch.finfo(log_prior.dtype).eps
    return torch.where(missing > rounding, missing, torch.zeros_like(missing)).log()


_LEAST = -1e300
"""Stands for -inf where that would be subtracted from itself."""
