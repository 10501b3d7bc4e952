"""What follows from an answer for the passages: posterior, effective number, leave-one-out, evidence ratio.

Shapes and symbols as in ``switching``. None of these needs another call of the language model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixrag.probability.logspace import log_difference, log_normalise, log_sum, log_sum_others
from mixrag.probability.switching import (
    Switch,
    log_answer_likelihood,
    log_marginal,
    log_smoothing,
    simplified,
)

_TOGETHER = 1 << 21
"""Numbers of the forward recursions that leave-one-out has in memory at once: 16 MiB in float64."""


def log_posterior(log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None) -> Tensor:
    """Log of the expected share of the answer's tokens that passage j wrote, shape (*B, K).

    That is (1/T) Σ_t p(z_t = j | x, y). At switch 0 one passage writes the whole answer, and this is the
    posterior p(z_j | x, y) ∝ π_j p(y | x, z_j). Without tokens it is the prior.

    Where the switch is 0 but for the ends of sentences, the tokens of one sentence are of one passage, and their
    ``log_smoothing`` is the posterior of that passage for this sentence.
    """
    switch = simplified(switch)
    if isinstance(switch, float) and (switch == 0.0 or log_likelihood.shape[-1] == 0):
        return log_normalise(log_prior + log_answer_likelihood(log_likelihood, mask), -1)
    smoothed = log_sum(log_smoothing(log_prior, log_likelihood, switch, mask), -1)
    shares = log_normalise(smoothed, -1)
    if mask is None:
        return shares
    return torch.where(mask.any(-1, keepdim=True), shares, log_normalise(log_prior, -1))


def effective_number(log_weights: Tensor) -> Tensor:
    """e^H(w), the perplexity of the weights, shape (*B,): 1 where one passage has all, K where all are equal."""
    log_weights = log_normalise(log_weights, -1)
    weights = log_weights.exp()
    surprise = torch.where(weights > 0, -log_weights, torch.zeros_like(weights))
    return (weights * surprise).sum(-1).exp()


def log_leave_one_out(
    log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None
) -> Tensor:
    """log p(y | x) had passage j never been retrieved, for each j, shape (*B, K).

    The others' prior is divided by 1 - π_j; under a truncated prior, as in the marginal, the passages left out
    have the same mass as before and add nothing. At switch 0 that is (p - π_j ℓ_j) / (1 - π_j), at switch 1 the
    same for each token, elsewhere one forward recursion for each j, all of them together. -inf where π_j = 1:
    nothing is left.
    """
    log_rest, switch = _log_complement(log_prior), simplified(switch)
    if isinstance(switch, float) and switch == 0.0:
        joint = log_prior + log_answer_likelihood(log_likelihood, mask)
        return _divide(log_sum_others(joint, -1), log_rest)
    if isinstance(switch, float) and switch == 1.0:
        per_token = log_sum_others(log_prior.unsqueeze(-1) + log_likelihood, -2)  # (*B, K, T)
        per_token = _divide(per_token, log_rest.unsqueeze(-1))
        return log_answer_likelihood(per_token, mask)
    return _leave_one_out_between(log_prior, log_rest, log_likelihood, switch, mask)


def _log_complement(log_prior: Tensor) -> Tensor:
    """log(1 - π_j), from the other passages and the mass outside: a difference would lose digits near π_j = 1."""
    outside = -torch.expm1(log_sum(log_prior, -1).detach())
    # A total of one up to rounding has nothing outside.
    rounding = 8 * log_prior.shape[-1] * torch.finfo(log_prior.dtype).eps
    outside = torch.where(outside > rounding, outside, torch.zeros_like(outside))
    log_others = log_sum_others(log_prior, -1)
    return log_sum(torch.stack([log_others, outside.log().unsqueeze(-1).expand_as(log_others)]), 0)


def _leave_one_out_between(
    log_prior: Tensor, log_rest: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None
) -> Tensor:
    """One forward recursion over a row of components for each j: as many rows at once as memory allows."""
    components = log_prior.shape[-1]
    itself = torch.eye(components, dtype=torch.bool, device=log_prior.device)
    without = _divide(log_prior.unsqueeze(-2).masked_fill(itself, -math.inf), log_rest.unsqueeze(-1))  # (*B, K, K)
    table = log_likelihood.unsqueeze(-3)  # (*B, 1, K, T)
    rows_mask = None if mask is None else mask.unsqueeze(-2)
    by_row = switch.unsqueeze(-2) if isinstance(switch, Tensor) else switch
    rows = max(1, _TOGETHER // max(1, log_likelihood.numel()))
    return torch.cat([log_marginal(part, table, by_row, rows_mask) for part in without.split(rows, -2)], -1)


def log_evidence_ratio(log_likelihood: Tensor, log_likelihood_null: Tensor, mask: Tensor | None = None) -> Tensor:
    """log p(y | x, z_j) / p(y | x, ∅), shape (*B, K), in nats.

    Above zero the passage made the answer more probable than the language model alone finds it. The second
    argument is (*B, T): the tokens' log-probabilities without any passage. Where the answer is impossible without
    a passage, or with this one, the ratio is not defined, and NaN.
    """
    alone = log_answer_likelihood(log_likelihood_null.unsqueeze(-2), mask)  # (*B, 1)
    ratio = log_answer_likelihood(log_likelihood, mask) - alone
    return torch.where(ratio.isfinite(), ratio, torch.full_like(ratio, math.nan))


def log_prior_to_lead(log_prior: Tensor, log_answer: Tensor, log_rival: Tensor) -> Tensor:
    """Log of the least prior with which passage j makes an answer as probable as a rival, for each j, (*B, K).

    At switch 0, from log p(y | x, z_j) (*B, K) of the answer a and of the rival b. The others, and what a
    truncated prior leaves out, share 1 - π in their present proportions: with R_j their ``log_leave_one_out``,

        π ℓ_j(a) + (1-π) R_j(a) = π ℓ_j(b) + (1-π) R_j(b)
        log-odds of π = log[R_j(b) - R_j(a)] - log[ℓ_j(a) - ℓ_j(b)]

    -inf where the answer leads without j; +inf where no prior is enough, since under j itself the rival is ahead.

    Example:
        >>> likelihood, rival = torch.tensor([0.9, 0.2]), torch.tensor([0.1, 0.6])
        >>> log_prior_to_lead(torch.tensor([0.2, 0.8]).log(), likelihood.log(), rival.log()).exp()
        tensor([0.3333, 0.0000])
    """
    log_rest = _log_complement(log_prior)
    behind = log_difference(
        _divide(log_sum_others(log_prior + log_rival, -1), log_rest),
        _divide(log_sum_others(log_prior + log_answer, -1), log_rest),
    )
    gain = log_difference(log_answer, log_rival)
    needed = torch.nn.functional.logsigmoid(behind - gain).masked_fill(gain == -math.inf, math.inf)
    return needed.masked_fill(behind == -math.inf, -math.inf)


def _divide(log_x: Tensor, log_total: Tensor) -> Tensor:
    return torch.where(log_total == -math.inf, torch.full_like(log_x, -math.inf), log_x - log_total)
