"""Sampling settings: the distribution that a token is drawn from, where it is not the model's own.

As in other software, and in its order: log-probabilities are divided by a temperature, then all but the ``top_k``
most probable tokens are left out, then all but the fewest whose probabilities reach ``top_p``, and what is left is
normalised (Fan et al. 2018; Holtzman et al. 2020, section 3.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_normalise


def log_sampling(log_probs: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """log q(v) of the distribution that a token is drawn from, shape (*B, V).

    Args:
        log_probs: (*B, V) log p(v), -inf allowed.
        temperature: at 0 the first of the most probable tokens has all of q.
        top_k: tokens that are left, more where several are as probable as the last of them; 0: all.
        top_p: the least probability, of what is left by then, that the tokens reach which stay; at least one does.

    Raises:
        ValueError: a negative temperature or ``top_k``, or ``top_p`` not in (0, 1].

    Example:
        >>> log_sampling(torch.tensor([0.5, 0.3, 0.2]).log(), top_p=0.7).exp()
        tensor([0.6250, 0.3750, 0.0000])
    """
    if not (temperature >= 0.0 and top_k >= 0 and 0.0 < top_p <= 1.0):
        found = f"{temperature}, {top_k}, {top_p}"
        raise ValueError(f"expected temperature >= 0, top_k >= 0 and top_p in (0, 1]; found {found}")
    if temperature == 0.0:
        best = torch.nn.functional.one_hot(log_probs.argmax(-1), log_probs.shape[-1])
        return best.to(log_probs).log()
    # Divided after the largest is taken off: a small temperature would overflow else.
    largest = log_probs.amax(-1, keepdim=True).clamp(min=torch.finfo(log_probs.dtype).min)
    scaled = (log_probs - largest) / temperature
    if 0 < top_k < log_probs.shape[-1]:
        least = scaled.topk(top_k, -1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < least, NEG_INF)
    log_q = log_normalise(scaled, -1)
    if top_p == 1.0:
        return log_q
    ordered, places = log_q.sort(dim=-1, descending=True, stable=True)
    before = ordered.exp().cumsum(-1).roll(1, -1)  # of the tokens ahead of each
    before[..., 0] = 0.0
    stays = torch.zeros_like(before, dtype=torch.bool).scatter(-1, places, before < top_p)
    return log_normalise(log_q.masked_fill(~stays, NEG_INF), -1)
