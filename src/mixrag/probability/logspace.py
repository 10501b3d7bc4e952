"""Arithmetic on log-probabilities that stays finite, in value and in gradient, at probability zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NEG_INF = -math.inf


def log_sum(log_x: Tensor, dim: int) -> Tensor:
    """log Σ exp along ``dim``; -inf, with gradient zero, where every term is -inf.

    ``torch.logsumexp`` has the same values, but a NaN gradient where every term is -inf.
    """
    shift = log_x.detach().amax(dim, keepdim=True)
    empty = shift == NEG_INF
    shift = shift.masked_fill(empty, 0.0)
    total = (log_x - shift).exp().sum(dim, keepdim=True)
    log_total = total.masked_fill(empty, 1.0).log() + shift
    return log_total.masked_fill(empty, NEG_INF).squeeze(dim)


def log_normalise(log_x: Tensor, dim: int) -> Tensor:
    """Divide by the total along ``dim``; a slice without any mass stays -inf."""
    total = log_sum(log_x, dim).unsqueeze(dim)
    return log_x - total.masked_fill(total == NEG_INF, 0.0)


def log_difference(log_x: Tensor, log_y: Tensor) -> Tensor:
    """log(e^x - e^y) element by element; -inf where x does not exceed y."""
    ahead = log_x > log_y
    gap = torch.where(ahead, log_y - log_x, torch.zeros_like(log_x))
    return torch.where(ahead, log_x + (-torch.expm1(gap)).log(), torch.full_like(log_x, NEG_INF))


def log_sum_others(log_x: Tensor, dim: int) -> Tensor:
    """log Σ_{i≠j} exp x_i for every j along ``dim``; shape as ``log_x``, -inf where no other has any mass.

    Running sums from both ends, because log(total - x_j) loses all digits where x_j is most of the total.
    """
    # A finite stand-in for -inf: its exponential is zero as well, and its gradients are zero instead of NaN.
    floor = torch.finfo(log_x.dtype).min / 4
    log_x = log_x.movedim(dim, -1).clamp(min=floor)
    from_right = _log_sum_before(log_x.flip(-1), floor).flip(-1)
    others = torch.logaddexp(_log_sum_before(log_x, floor), from_right)
    return others.masked_fill(others <= floor / 2, NEG_INF).movedim(-1, dim)


def _log_sum_before(log_x: Tensor, floor: float) -> Tensor:
    running = log_x.logcumsumexp(-1)[..., :-1]
    return torch.nn.functional.pad(running, (1, 0), value=floor)
