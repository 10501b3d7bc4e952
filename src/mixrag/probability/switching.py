"""The switching mixture: the hidden passage is re-drawn from the prior between tokens with probability ρ.

    z_1 ~ π,   z_{t+1} = z_t with probability 1-ρ, else ~ π,   y_t ~ p(y_t | x, z_t, y_<t)

ρ = 0 is RAG-Sequence and ρ = 1 is RAG-Token (Lewis et al. 2020, equations 1 and 2); between them is a
hidden Markov model, whose sums over paths are the forward and backward recursions (Rabiner 1989, section III).

Shapes: B questions (any leading dimensions), K components, T answer tokens.

    log_prior       (*B, K)      log π_j, -inf allowed; its total may be below one (a truncated prior)
    log_likelihood  (*B, K, T)   log e_t(j) = log p(y_t | x, z_j, y_<t)
    mask            (*B, T)      True at the tokens of the answer, False at padding; None = all True
    switch          ρ in [0, 1]; or (*B, T), ρ_t in [0, 1]: with which probability the passage is drawn again after
                    token t, between it and the next one. The last one matters to what would follow alone

With one ρ_t for each token, ρ in the formulas at token t+1 is ρ_t. It may depend on the answer up to token t, as
where the passage may change at the ends of sentences only: each p(next token | answer so far) is a distribution,
and so is their product, as long as nothing that comes later decides it.

Where a quantity is conditional on an answer of probability zero it is undefined, and returned as -inf.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixrag.probability.logspace import log_normalise, log_sum

Switch = float | Tensor
"""ρ, or one for each token."""


def log_marginal(log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None) -> Tensor:
    """log p(y | x), shape (*B,): the log-probability of the whole answer.

    Closed forms at switch 0 and 1, the forward recursion elsewhere. An answer without tokens has the
    total of the prior.

    Raises:
        ValueError: ``switch`` outside [0, 1], or shapes that do not fit.

    Example:
        >>> prior, likelihood = torch.tensor([0.75, 0.25]), torch.tensor([[0.5, 0.1], [0.2, 0.8]])
        >>> log_marginal(prior.log(), likelihood.log(), switch=0.0).exp()  # .75*.5*.1 + .25*.2*.8
        tensor(0.0775)
        >>> log_marginal(prior.log(), likelihood.log(), switch=1.0).exp()  # (.75*.5+.25*.2) * (.75*.1+.25*.8)
        tensor(0.1169)
    """
    _check(log_prior, log_likelihood, switch, mask)
    switch = simplified(switch)
    if isinstance(switch, float) and (switch == 0.0 or log_likelihood.shape[-1] == 0):
        return log_sum(log_prior + log_answer_likelihood(log_likelihood, mask), -1)
    if isinstance(switch, float) and switch == 1.0:
        per_token = log_sum(log_prior.unsqueeze(-1) + log_likelihood, -2)  # (*B, T)
        if mask is None:
            return per_token.sum(-1)
        total = torch.where(mask, per_token, torch.zeros_like(per_token)).sum(-1)
        return torch.where(mask.any(-1), total, log_sum(log_prior, -1))
    return log_sum(log_forward(log_prior, log_likelihood, switch, mask)[..., -1], -1)


def log_answer_likelihood(log_likelihood: Tensor, mask: Tensor | None = None) -> Tensor:
    """log p(y | x, z_j), shape (*B, K): the whole answer under each component alone."""
    if mask is not None:
        log_likelihood = torch.where(mask.unsqueeze(-2), log_likelihood, torch.zeros_like(log_likelihood))
    return log_likelihood.sum(-1)


def log_forward(log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None) -> Tensor:
    """log α_t(j) = log p(y_1..y_t, z_t = j | x), shape (*B, K, T); a padded position repeats the one before.

    The exact reference for ``log_marginal`` at every switch:

        α_1(j)   = π_j e_1(j)
        α_t+1(j) = [(1-ρ) α_t(j) + ρ π_j Σ_i α_t(i)] e_t+1(j)
    """
    _check(log_prior, log_likelihood, switch, mask)
    log_prior, log_likelihood, valid = _broadcast(log_prior, log_likelihood, mask, switch)
    log_alpha, started = log_prior, torch.zeros_like(valid[..., 0])
    steps, before = list[Tensor](), _before(switch, valid)
    for t in range(log_likelihood.shape[-1]):
        ready = torch.where(started.unsqueeze(-1), log_transition(log_alpha, log_prior, before[t]), log_prior)
        updated = ready + log_likelihood[..., t]
        log_alpha = torch.where(valid[..., t].unsqueeze(-1), updated, log_alpha)
        started = started | valid[..., t]
        steps.append(log_alpha)
    return torch.stack(steps, -1) if steps else log_likelihood


def log_transition(log_weights: Tensor, log_prior: Tensor, switch: Switch) -> Tensor:
    """One step of the hidden passage: log[(1-ρ) w_j + ρ π_j Σ_i w_i], shape (*B, K).

    From the filtered weights p(z_t | x, y_≤t) this gives the weights that mix the next token's distribution.
    ``switch`` is ρ, or (*B,) one for each row of weights.
    """
    if not isinstance(switch, Tensor) and switch == 0.0:
        return log_weights
    redrawn = log_prior + log_sum(log_weights, -1).unsqueeze(-1)
    if not isinstance(switch, Tensor) and switch == 1.0:
        return redrawn
    log_stay, log_switch = _log_chances(switch, log_weights)
    return log_sum(torch.stack([log_stay + log_weights, log_switch + redrawn]), 0)


def log_filter(log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None) -> Tensor:
    """log p(z_t = j | x, y_≤t), shape (*B, K, T): the live posterior after each token."""
    return log_normalise(log_forward(log_prior, log_likelihood, switch, mask), -2)


def log_predictive_weights(
    log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None
) -> Tensor:
    """log p(z_t = j | x, y_<t), shape (*B, K, T+1): the weights that mix token t's distribution.

    The first is the prior, the last mixes the token that would follow the answer. At a padded position they
    are the weights of the token at this place. Under a truncated prior their total is below one by
    the mass that a draw leaves out, so that the mixed tokens multiply to the log marginal.
    """
    filtered = log_filter(log_prior, log_likelihood, switch, mask)
    log_prior, _, valid = _broadcast(log_prior, log_likelihood, mask, switch)
    weights, before = [log_prior], _before(switch, valid)
    for t in range(filtered.shape[-1]):
        started = valid[..., : t + 1].any(-1, keepdim=True)
        following = log_transition(filtered[..., t], log_prior, before[t + 1])
        weights.append(torch.where(started, following, log_prior))
    return torch.stack(weights, -1)


def log_mix(log_weights: Tensor, log_probs: Tensor) -> Tensor:
    """log Σ_j w_j p_j(v): weights (*B, K), distributions (*B, K, V), result (*B, V)."""
    return log_sum(log_weights.unsqueeze(-1) + log_probs, -2)


def log_smoothing(log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None) -> Tensor:
    """log p(z_t = j | x, y), shape (*B, K, T): which passage wrote each token, given the whole answer.

    Forward-backward; at switch 0 every token has the posterior of the whole answer, at switch 1 each token
    its own. -inf at padded positions.
    """
    log_alpha = log_forward(log_prior, log_likelihood, switch, mask)
    log_beta = log_backward(log_prior, log_likelihood, switch, mask)
    smoothed = log_normalise(log_alpha + log_beta, -2)
    return smoothed if mask is None else smoothed.masked_fill(~mask.unsqueeze(-2), -math.inf)


def log_backward(log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None) -> Tensor:
    """log β_t(j) = log p(y_t+1..y_T | x, z_t = j, y_≤t), shape (*B, K, T).

    β_T(j) = 1 and β_t(j) = (1-ρ) e_t+1(j) β_t+1(j) + ρ Σ_i π_i e_t+1(i) β_t+1(i).
    """
    _check(log_prior, log_likelihood, switch, mask)
    log_prior, log_likelihood, valid = _broadcast(log_prior, log_likelihood, mask, switch)
    log_beta = torch.zeros_like(log_prior)
    steps, before = list[Tensor](), _before(switch, valid)
    for t in reversed(range(log_likelihood.shape[-1])):
        steps.append(log_beta)
        ahead = _log_transition_back(log_likelihood[..., t] + log_beta, log_prior, before[t])
        log_beta = torch.where(valid[..., t].unsqueeze(-1), ahead, log_beta)
    return torch.stack(steps[::-1], -1) if steps else log_likelihood


def expected_draws(
    log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None
) -> Tensor:
    """E[how often passage j is drawn from the prior | x, y], shape (*B, K).

    The first token always draws, later ones with probability ρ_t. At switch 0 this is the posterior, at
    switch 1 the smoothed weights summed over the tokens. It is the gradient of the log marginal with respect
    to log π (Fisher's identity); with respect to the scores of a softmax prior the gradient is
    draws - π Σ draws, at switch 0 posterior - prior.
    """
    _check(log_prior, log_likelihood, switch, mask)
    with torch.enable_grad():
        expanded, _, _ = _broadcast(log_prior, log_likelihood, mask, switch)
        prior = expanded.detach().clone().requires_grad_()
        total = log_marginal(prior, log_likelihood.detach(), switch, mask)
        (draws,) = torch.autograd.grad(total.sum(), prior)
    return draws


def simplified(switch: Switch) -> Switch:
    """The one ρ that all tokens have, as a number, where they all have the same; else the tensor itself."""
    if not isinstance(switch, Tensor):
        return float(switch)
    if switch.numel() == 0:
        return 0.0
    first = switch.flatten()[0]
    return float(first) if bool((switch == first).all()) else switch


def _log_transition_back(log_ahead: Tensor, log_prior: Tensor, switch: Switch) -> Tensor:
    if not isinstance(switch, Tensor) and switch == 0.0:
        return log_ahead
    redrawn = log_sum(log_prior + log_ahead, -1).unsqueeze(-1).expand_as(log_ahead)
    if not isinstance(switch, Tensor) and switch == 1.0:
        return redrawn
    log_stay, log_switch = _log_chances(switch, log_ahead)
    return log_sum(torch.stack([log_stay + log_ahead, log_switch + redrawn]), 0)


def _log_chances(switch: Switch, log_weights: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """log(1-ρ) and log ρ: numbers, or (*B, 1) beside weights (*B, K)."""
    if not isinstance(switch, Tensor):
        return math.log1p(-switch), math.log(switch)
    chance = switch.to(log_weights).unsqueeze(-1)
    return torch.log1p(-chance), chance.log()


def _before(switch: Switch, valid: Tensor) -> list[Switch]:
    """T+1 entries, each ρ or (*B,): what is between token t and the valid one before it, and after the last one.

    The first is not used, nor are those before an answer begins.
    """
    length = valid.shape[-1]
    switch = simplified(switch)
    if isinstance(switch, float):
        return [switch] * (length + 1)
    places = torch.where(valid, torch.arange(length, device=valid.device), 0).cummax(-1).values
    after = switch.to(valid.device).expand_as(valid).gather(-1, places)
    return [0.0, *after.unbind(-1)]


def _broadcast(
    log_prior: Tensor, log_likelihood: Tensor, mask: Tensor | None, switch: Switch
) -> tuple[Tensor, Tensor, Tensor]:
    if mask is None:
        mask = torch.ones(log_likelihood.shape[-1], dtype=torch.bool, device=log_likelihood.device)
    by_token = switch.shape[:-1] if isinstance(switch, Tensor) else torch.Size()
    shapes = (log_prior.shape[:-1], log_likelihood.shape[:-2], mask.shape[:-1], by_token)
    # torch.broadcast_shapes would import sympy, for half a second.
    leading = sum((torch.empty(shape) for shape in shapes), torch.empty(())).shape
    components, tokens = log_likelihood.shape[-2:]
    return (
        log_prior.expand(*leading, components),
        log_likelihood.expand(*leading, components, tokens),
        mask.expand(*leading, tokens),
    )


def in_range(switch: Switch) -> bool:
    """Whether ρ, or all of them, are probabilities."""
    if isinstance(switch, Tensor):
        return bool(((switch >= 0.0) & (switch <= 1.0)).all())
    return 0.0 <= switch <= 1.0


def _check(log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None) -> None:
    if not in_range(switch):
        raise ValueError(f"expected switch in [0, 1]; found {switch}")
    if log_likelihood.dim() < 2 or log_prior.shape[-1] != log_likelihood.shape[-2]:
        shapes = f"{tuple(log_prior.shape)} and {tuple(log_likelihood.shape)}"
        raise ValueError(f"expected log_prior (*B, K) and log_likelihood (*B, K, T); found {shapes}")
    length = log_likelihood.shape[-1]
    if mask is not None and mask.shape[-1] != length:
        raise ValueError(f"expected a mask over T = {length} tokens; found {tuple(mask.shape)}")
    if isinstance(switch, Tensor) and switch.shape[-1:] not in ((), (length,)):
        raise ValueError(f"expected switch over T = {length} tokens; found {tuple(switch.shape)}")
