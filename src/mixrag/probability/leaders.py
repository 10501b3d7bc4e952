"""The most probable continuations of several answers, without a float64 table over the whole vocabulary.

Found in float32 and then computed as ``log_mix`` computes them: what float32 cannot decide is left to ``log_mix``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixrag.probability.switching import log_mix

SPARE = 16
"""Continuations found beyond those asked for: the last of them bounds all that are left out."""
LOST = 1e-30
"""Relative to the most probable answer: what is below may have been lost to float32's range."""


def leading(
    log_before: Tensor, log_weights: Tensor, log_probs: Tensor, count: int, never: Tensor
) -> tuple[Tensor, Tensor]:
    """The ``count`` largest of log_before + log_mix(log_weights, log_probs), with their places in that table.

    Args:
        log_before: (W,) log-probabilities of W answers so far, float64.
        log_weights: (W, K) what mixes the next token of each, float64.
        log_probs: (W, K, V) log-probabilities of the next token, -inf allowed, in float32 or float64.
        count: how many, at most W · V.
        never: (N,) tokens left out: they count as -inf.

    Returns:
        (count,) the sums in float64, largest first, and (count,) their flat places w · V + v.

    Example:
        >>> one, nothing = torch.zeros(1, dtype=torch.float64), torch.tensor([], dtype=torch.long)
        >>> leading(one, one[None], torch.tensor([[[0.25, 0.75]]]).log(), 1, nothing)[1]
        tensor([1])
    """
    found_in_all = count + SPARE
    exact = torch.get_float32_matmul_precision() == "highest"  # not TF32, whose rounding the bound does not cover
    if exact and log_probs.dtype == torch.float32 and found_in_all < len(log_before) * log_probs.shape[-1]:
        found, certain = _in_float32(log_before, log_weights, log_probs, count, never)
        if certain:
            return found
    mixed = log_before[:, None] + log_mix(log_weights, log_probs.to(log_weights.dtype))
    best = mixed.index_fill(-1, never, -math.inf).flatten().topk(count)
    return best.values, best.indices


def _in_float32(
    log_before: Tensor, log_weights: Tensor, log_probs: Tensor, count: int, never: Tensor
) -> tuple[tuple[Tensor, Tensor], bool]:
    """As ``leading``, and whether it is certain that nothing left out is more probable."""
    first, size = log_before.max(), log_probs.shape[-1]
    weights = (log_before[:, None] - first + log_weights).exp().float()
    mixed = (weights.unsqueeze(1) @ log_probs.exp()).squeeze(1).index_fill(-1, never, 0.0)  # (W, V)
    rough = mixed.flatten().topk(count + SPARE)
    answers, tokens = rough.indices // size, rough.indices % size
    table = log_probs[answers, :, tokens].to(log_weights.dtype)  # (count + SPARE, K)
    exact = log_before[answers] + log_mix(log_weights[answers], table.unsqueeze(-1)).squeeze(-1)
    best = exact.masked_fill(torch.isin(tokens, never), -math.inf).topk(count)
    # K products are rounded and added up.
    rounded = (log_weights.shape[-1] + 16) * torch.finfo(torch.float32).eps
    bound = first + (rough.values[-1].double() * (1 + rounded) + LOST).log()
    return (best.values, rough.indices[best.indices]), bool(best.values[-1] > bound)
