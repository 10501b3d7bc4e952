"""p(z | x): from the scores of passages to their prior, for every kind of search and for training.

For a question x and the passages z_1..z_M that a search may return, with inner products d(z_j)·q(x):

    s_j = (1-λ) d(z_j)·q(x) / T + λ BM25_j / T'    score; BM25_j = 0 where z_j shares no word with x
    Z   = Σ_{j≤M} e^{s_j}                          over all M passages
    n   = e^b                                      null component, no passage (REALM: Guu et al. 2020, section 3.4)
    π_j = e^{s_j} / (Σ_{i≤K} e^{s_i} + n)          prior under the "top-k" normaliser (Lewis et al. 2020)
    π_j = e^{s_j} / (Z + n)                        prior under the "full" normaliser
    ε   = (Z - Σ_{i≤K} e^{s_i}) / (Z + n)          prior mass outside the K passages, under the full normaliser

λ = 0 is the dense retriever (Lewis et al. 2020, section 2.2), λ = 1 BM25 alone. Where no passage shares a word
with x, λ is 0. The sum of the two scores is the logarithm of the product of two distributions, e^{d·q/T} to the
power 1-λ and e^{BM25/T'} to the power λ: a logarithmic opinion pool (Genest and Zidek 1986), and for the ranking
the linear fusion of scores (Bruch, Gai and Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval").

Why no mixture (1-λ) p_dense + λ p_lexical: each part has a normaliser of its own over all M passages, both are in
every π_j, and an approximate search knows neither. Here one normaliser is common to both. It cancels under
"top-k", so that π depends on the scores of the components alone, not on how they were found.

Shapes: B questions (any leading dimensions), C candidates, K of them that are components. All functions are
differentiable in the inner products, T, T' and b, and finite in value and gradient where a passage has no mass
(``-inf``). Results are float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_sum


def passage_scores(
    inner_products: Tensor,
    temperature: Tensor | float,
    *,
    bm25: Tensor | None = None,
    lexical: float = 0.0,
    lexical_temperature: Tensor | float = 1.0,
    allowed: Tensor | None = None,
) -> Tensor:
    """(*B, C) scores s_j.

    Args:
        inner_products: (*B, C) d(z_j)·q(x).
        temperature: T > 0.
        bm25: (*B, C) BM25_j, 0 where no word is shared; None where no passage at all shares one: λ is 0.
        lexical: λ in [0, 1].
        lexical_temperature: T' > 0.
        allowed: (*B, C), True at the candidates that a filter lets through; None: all. The others have no mass.

    Example:
        >>> passage_scores(torch.tensor([0.2, 0.1]), 0.1, bm25=torch.tensor([0.0, 4.0]), lexical=0.5)
        tensor([1.0000, 2.5000], dtype=torch.float64)
    """
    scores = inner_products.double() / temperature
    if bm25 is not None and lexical > 0.0:
        scores = (1.0 - lexical) * scores + lexical * bm25.double() / lexical_temperature
    return scores if allowed is None else scores.masked_fill(~allowed, NEG_INF)


def highest(scores: Tensor, k: int) -> Tensor:
    """(*B, min(k, C)) places of the largest scores, largest first; equal ones in the order of the candidates."""
    order: Tensor = scores.argsort(dim=-1, descending=True, stable=True)
    return order[..., :k]


def smallest_k(
    scores: Tensor, max_outside: float, log_z: Tensor | float, null: Tensor | float | None = None
) -> int:
    """Adaptive k: the smallest n with which the first n of K passages leave ε <= ``max_outside`` to all others.

    K where even all K leave more. ``max_outside`` 0 asks for all passages that have any mass.

    Args:
        scores: (K,) s_j, largest first.
        max_outside: the largest ε in [0, 1).
        log_z: log Z over all M passages.
        null: b; None for no null component.
    """
    total = torch.as_tensor(log_z, dtype=torch.float64)
    null = torch.as_tensor(NEG_INF if null is None else null, dtype=torch.float64)
    share = math.exp(-float(torch.logaddexp(torch.zeros_like(total), null - total)))  # of all passages together
    limit = max_outside / share if share > max_outside else 1.0
    left = 1.0 - (scores.double() - total).exp().cumsum(-1)
    # A cumulative sum of K terms that should be one misses it by rounding.
    rounding = 4 * len(scores) * torch.finfo(torch.float64).eps
    enough = (left <= limit + rounding).nonzero()
    return int(enough[0]) + 1 if len(enough) else len(scores)


def normalised_prior(
    scores: Tensor,
    null: Tensor | float | None = None,
    *,
    log_z: Tensor | float | None = None,
    uniform: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """log π_j of K passages (*B, K), and the log prior of the null component (*B,) where there is one.

    Args:
        scores: (*B, K) s_j of the components.
        null: b, a number or (*B,); None for no null component.
        log_z: (*B,) log Z over all M passages for the "full" normaliser; None for "top-k".
        uniform: the passages share their total equally; the null component has what it has.

    Example:
        >>> log_prior, _ = normalised_prior(torch.tensor([0.6, 0.2]).double().log())
        >>> log_prior.exp()
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    scores = scores.double()
    total = log_sum(scores, -1) if log_z is None else torch.as_tensor(log_z, dtype=torch.float64)
    if null is not None:
        null = torch.as_tensor(null, dtype=torch.float64).expand_as(total)
        total = log_sum(torch.stack([total, null]), 0)
    log_prior = scores - total.unsqueeze(-1)
    log_prior = uniform_prior(log_prior) if uniform else log_prior
    return log_prior, None if null is None else null - total


def uniform_prior(log_prior: Tensor) -> Tensor:
    """(*B, K) the same total as ``log_prior``, shared equally among the K."""
    share = log_sum(log_prior, -1) - math.log(log_prior.shape[-1])
    return share.unsqueeze(-1).expand_as(log_prior).clone()


def mass_outside(log_inside: Tensor | float, log_z: Tensor | float, null: Tensor | float | None = None) -> Tensor:
    """ε: the prior mass of passages that are not components. It rises with Z: bounds on Z are bounds on ε.

    Args:
        log_inside: (*B,) log Σ e^{s_j} over the K passages that are components.
        log_z: (*B,) log Z, the same over all M passages.
        null: (*B,) b; None for no null component.
    """
    inside, total = (torch.as_tensor(each, dtype=torch.float64) for each in (log_inside, log_z))
    null = torch.as_tensor(NEG_INF if null is None else null, dtype=torch.float64)
    left = -torch.expm1((inside - total).clamp(max=0.0))
    return left * torch.exp(-torch.logaddexp(torch.zeros_like(total), null - total))
