"""Mixtures of generators: p(y | x, z) = Σ_g w_g p_g(y | x, z), of G generators with weights w.

In each component the generator is drawn once for a whole answer, as the passage is at switch 0, so that the next
token's distribution is a mixture with filtered weights (``switching`` with generators in the place of passages):

    p(y_t | y_<t, x, z) = Σ_g ω_g(t) p_g(y_t | y_<t, x, z),    ω_g(t) ∝ w_g p_g(y_<t | x, z)
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_difference, log_normalise, log_sum
from mixrag.probability.switching import log_predictive_weights

STEPS = 10_000
"""Most steps of ``fitted_weights``."""


def log_mixed_tokens(log_weights: Tensor, log_likelihood: Tensor) -> Tensor:
    """(R, T) log p(y_t | y_<t) of R rows under a mixture of G generators.

    Args:
        log_weights: (R, G) log ω_g before the first of these tokens.
        log_likelihood: (R, G, T) log p_g(y_t | y_<t).

    Returns:
        Their sum over t is log Σ_g ω_g Π_t p_g; a token after an impossible one is impossible.

    Example:
        >>> each = torch.tensor([[[0.5, 0.5], [0.25, 1.0]]]).log()
        >>> log_mixed_tokens(torch.tensor([[0.5, 0.5]]).log(), each).exp()
        tensor([[0.3750, 0.6667]])
    """
    weights = log_predictive_weights(log_weights, log_likelihood, 0.0)
    return log_sum(weights[..., :-1] + log_likelihood, -2)


def log_other_tokens(log_mixed: Tensor, log_one: Tensor, log_weight: Tensor, log_other_weight: Tensor) -> Tensor:
    """(R, T) log p_b(y_t | y_<t) of one of two generators, from the mixture of both and the other generator a.

        p_b(y_1..y_t) = (p(y_1..y_t) - w_a p_a(y_1..y_t)) / w_b

    Exact up to rounding of p: where b gives less than 1e-12 of it, its digits are lost, and where b gives nothing
    that can be seen, -inf.

    Args:
        log_mixed: (R, T) of the mixture.
        log_one: (R, T) of generator a.
        log_weight: () log w_a.
        log_other_weight: () log w_b, above -inf.
    """
    own = log_difference(log_mixed.cumsum(-1), log_weight + log_one.cumsum(-1)) - log_other_weight
    own = torch.cummin(own, -1).values.clamp(max=0.0)  # a longer text is not more probable
    before = torch.nn.functional.pad(own[..., :-1], (1, 0), value=0.0)
    return torch.where(before == NEG_INF, NEG_INF, own - before.masked_fill(before == NEG_INF, 0.0))


def fitted_weights(log_likelihood: Tensor, tolerance: float = 1e-9) -> Tensor:
    """(G,) the weights w that maximise Σ_i log Σ_g w_g p_g(y_i | x_i), by the EM algorithm.

    The function is concave in w, so that what EM converges to, from equal weights, is its maximum. Dempster, Laird
    and Rubin 1977, section 4.3 (mixtures whose components are known).

    Args:
        log_likelihood: (N, G) log p_g(y_i | x_i) of N pairs; pairs that every generator finds impossible are left
            out.
        tolerance: largest change of a weight in the last step.

    Raises:
        ValueError: no pair is possible.

    Example:
        >>> fitted_weights(torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.0, 0.5], [0.0, 0.1]]).log())
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    table = log_likelihood.double()
    table = table[(table > NEG_INF).any(-1)]
    if not len(table):
        raise ValueError("no answer that a generator can write")
    weights = table.new_full((table.shape[1],), 1 / table.shape[1])
    for _ in range(STEPS):
        before = weights
        weights = log_normalise(before.log() + table, -1).exp().mean(0)
        if float((weights - before).abs().max()) <= tolerance:
            break
    return weights
