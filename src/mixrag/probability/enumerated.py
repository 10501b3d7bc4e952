"""Mixtures of distributions over finitely many answers: p(y | x), entropy and information by enumeration.

N outcomes of K components are given as lists: for each outcome, which answer it is, of which component, and its
log-probability there. Outcomes of one answer and one component add up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_normalise


def log_sum_by(log_x: Tensor, group: Tensor, count: int) -> Tensor:
    """(count,) log Σ exp of the entries of each group; -inf for a group without any mass.

    Args:
        log_x: (N,) natural logarithms, -inf allowed.
        group: (N,) integers below ``count``.
        count: groups.

    Example:
        >>> log_sum_by(torch.tensor([0.25, 0.5, 0.25]).log(), torch.tensor([0, 1, 0]), 3).exp()
        tensor([0.5000, 0.5000, 0.0000])
    """
    most = torch.full((count,), NEG_INF, dtype=log_x.dtype, device=log_x.device)
    most = most.scatter_reduce(0, group, log_x, "amax")
    shift = most.masked_fill(most == NEG_INF, 0.0)
    total = torch.zeros_like(most).index_add(0, group, (log_x - shift[group]).exp())
    return total.log() + shift


def log_enumerated(log_prior: Tensor, answer: Tensor, component: Tensor, log_prob: Tensor, count: int) -> Tensor:
    """(count,) log p(y | x) = log Σ_j π_j p(y | x, z_j) of every answer; sums to the total of the prior.

    Args:
        log_prior: (K,) log π_j.
        answer: (N,) which answer each outcome is, below ``count``.
        component: (N,) of which component, below K.
        log_prob: (N,) its log-probability under that component.
        count: answers.
    """
    return log_sum_by(log_prior[component] + log_prob, answer, count)


def entropy(log_prob: Tensor) -> Tensor:
    """H = -Σ p log p along the last dimension, in nats, of log-probabilities that sum to one; 0 log 0 = 0.

    >>> entropy(torch.tensor([0.5, 0.5, 0.0]).log())
    tensor(0.6931)
    """
    return -(log_prob.exp() * log_prob.masked_fill(log_prob == NEG_INF, 0.0)).sum(-1)


def answer_information(
    log_prior: Tensor, answer: Tensor, component: Tensor, log_prob: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """H(y | x) and I(y; z | x) = H(y | x) - Σ_j π_j H(y | x, z_j), in nats; arguments as ``log_enumerated``.

    I is the information that the answer has about the passage: 0 where all passages say the same with the same
    probabilities, H where each is certain of its own answer. A prior below one in total is divided by it.
    """
    log_prior = log_normalise(log_prior, -1)
    total = entropy(log_enumerated(log_prior, answer, component, log_prob, count))
    both, place = torch.unique(answer * len(log_prior) + component, return_inverse=True)
    within = log_sum_by(log_prob, place, len(both))
    terms = within.exp() * within.masked_fill(within == NEG_INF, 0.0)
    each = torch.zeros_like(log_prior).index_add(0, both % len(log_prior), -terms)
    return total, (total - (log_prior.exp() * each).sum()).clamp(min=0.0)


def log_posterior_of(
    log_prior: Tensor, answer: Tensor, component: Tensor, log_prob: Tensor, wanted: int
) -> Tensor:
    """(K,) log p(z_j | x, y) of one answer, ``wanted``; arguments as ``log_enumerated``."""
    own = answer == wanted
    likelihood = log_sum_by(log_prob[own], component[own], len(log_prior))
    return log_normalise(log_prior + likelihood, -1)
