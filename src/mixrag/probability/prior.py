"""p(z | x): from the scores of passages to their prior, for both search and training.

For a question x and the passages z_1..z_M that a search may return, with inner products d(z_j)·q(x):

    s_j = d(z_j)·q(x) / T                    logits of the dense retriever (Lewis et al. 2020, section 2.2)
    Z   = Σ_j e^{s_j}                        over all M passages, or over the C candidates where that is unknown
    w_j = softmax_j(BM25_j / T')             lexical distribution, over the passages that share a word with x
    m_j = (1-λ) e^{s_j} / Z + λ w_j          mass of a passage: all passages together have one
    n   = e^b / Z                            mass of the null component, no passage (REALM: Guu et al. 2020, 3.4)
    π_j = m_j / (Σ_{i≤K} m_i + n)            prior under the "top-k" normaliser (Lewis et al. 2020)
    π_j = m_j / (1 + n)                      prior under the "full" normaliser
    ε   = (1 - Σ_{i≤K} m_i) / (1 + n)        prior mass outside the K passages, under the full normaliser

Shapes: B questions (any leading dimensions), C candidates, K of them that are components, N lexical matches. All
functions are differentiable in the inner products, T and b, and finite in value and gradient where a passage has
no mass (``-inf``). Results are float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_sum


def log_masses(
    inner_products: Tensor,
    temperature: Tensor | float,
    *,
    log_z: Tensor | float | None = None,
    allowed: Tensor | None = None,
    log_lexical: Tensor | None = None,
    lexical: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """log m_j of the candidates (*B, C), and log Z (*B,).

    Args:
        inner_products: (*B, C) d(z_j)·q(x).
        temperature: T > 0.
        log_z: log Z over all M passages, where it is known; None: over the candidates.
        allowed: (*B, C), True at the candidates that a filter lets through; None: all. The others have no mass.
        log_lexical: (*B, C) log w_j; None where no passage shares a word with the question: dense alone.
        lexical: λ in [0, 1].

    Example:
        >>> log_mass, log_z = log_masses(torch.tensor([2.0, 1.0]), 1.0)
        >>> log_mass.exp()
        tensor([0.7311, 0.2689], dtype=torch.float64)
    """
    logits = inner_products.double() / temperature
    if allowed is not None:
        logits = logits.masked_fill(~allowed, NEG_INF)
    total = logits.logsumexp(-1) if log_z is None else torch.as_tensor(log_z, dtype=torch.float64)
    log_dense = logits - total.unsqueeze(-1)
    if log_lexical is None or lexical == 0.0:
        return log_dense, total
    shares = [log_dense + _log(1 - lexical), log_lexical + _log(lexical)]
    return log_sum(torch.stack(shares), 0), total


def log_null_mass(score: Tensor | float | None, log_z: Tensor) -> Tensor | None:
    """(*B,) log n = b - log Z: the mass of a null component with score b; None for no such component."""
    return None if score is None else score - log_z


def log_lexical_distribution(scores: Tensor, places: Tensor, candidates: int, temperature: float) -> Tensor:
    """(C,) log w_j: the softmax of BM25 / T' over all N matches, at the candidates; -inf at those without a match.

    Args:
        scores: (N,) BM25 of all passages that share a word with the question.
        places: (N,) the place of each among the candidates, -1 for a passage that is not one of them.
        candidates: C.
        temperature: T' > 0.
    """
    log_probs = (scores.double() / temperature).log_softmax(0)
    found = places >= 0
    nothing = torch.full((candidates,), NEG_INF, dtype=torch.float64)
    return nothing.index_put((places[found],), log_probs[found])


def highest(log_mass: Tensor, k: int) -> Tensor:
    """(*B, min(k, C)) places of the largest masses, largest first; equal ones in the order of the candidates."""
    order: Tensor = log_mass.argsort(dim=-1, descending=True, stable=True)
    return order[..., :k]


def smallest_k(log_mass: Tensor, max_outside: float, log_null: Tensor | float | None = None) -> int:
    """Adaptive k: the smallest n with which the first n of K passages leave ε <= ``max_outside`` to all others.

    K where even all K leave more. ``max_outside`` 0 asks for all passages that have any mass.

    Args:
        log_mass: (K,) log m_j, largest first, under exact search.
        max_outside: the largest ε in [0, 1).
        log_null: log n; None for no null component.
    """
    null = torch.as_tensor(NEG_INF if log_null is None else log_null, dtype=torch.float64)
    share = math.exp(-float(torch.logaddexp(torch.zeros_like(null), null)))  # what null leaves to all passages
    limit = max_outside / share if share > max_outside else 1.0
    left = 1.0 - log_mass.double().exp().cumsum(-1)
    # A cumulative sum of K terms that should be one misses it by rounding.
    rounding = 4 * len(log_mass) * torch.finfo(torch.float64).eps
    enough = (left <= limit + rounding).nonzero()
    return int(enough[0]) + 1 if len(enough) else len(log_mass)


def normalised_prior(
    log_mass: Tensor, log_null: Tensor | None = None, *, full: bool = False, uniform: bool = False
) -> tuple[Tensor, Tensor | None]:
    """log π_j of K passages (*B, K), and the log prior of the null component (*B,) where there is one.

    Args:
        log_mass: (*B, K) log m_j of the components.
        log_null: (*B,) log n; None for no null component.
        full: the "full" normaliser, whose Z goes over all M passages, instead of "top-k".
        uniform: the passages share their total equally; the null component has what it has.

    Example:
        >>> log_prior, _ = normalised_prior(torch.tensor([0.6, 0.2]).double().log())
        >>> log_prior.exp()
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    log_passages = torch.zeros_like(log_mass[..., 0]) if full else log_sum(log_mass, -1)
    total = log_passages if log_null is None else log_sum(torch.stack([log_passages, log_null]), 0)
    log_prior = log_mass - total.unsqueeze(-1)
    log_prior = uniform_prior(log_prior) if uniform else log_prior
    return log_prior, None if log_null is None else log_null - total


def uniform_prior(log_prior: Tensor) -> Tensor:
    """(*B, K) the same total as ``log_prior``, shared equally among the K."""
    share = log_sum(log_prior, -1) - math.log(log_prior.shape[-1])
    return share.unsqueeze(-1).expand_as(log_prior).clone()


def mass_outside(
    log_inside: Tensor | float, log_total: Tensor | float = 0.0, log_null: Tensor | float | None = None
) -> Tensor:
    """ε = (e^total - e^inside) / (e^total + e^null): the prior mass of passages that are not components.

    With masses, ``log_total`` is 0; with sums of e^{s_j} it is log Z. It rises with ``log_total``, so that bounds
    on log Z are bounds on ε.

    Args:
        log_inside: (*B,) log Σ over the K passages that are components.
        log_total: (*B,) the same over all M passages.
        log_null: (*B,) the null component on the same scale; None for no such component.
    """
    inside, total = (torch.as_tensor(each, dtype=torch.float64) for each in (log_inside, log_total))
    null = torch.as_tensor(NEG_INF if log_null is None else log_null, dtype=torch.float64)
    left = -torch.expm1((inside - total).clamp(max=0.0))
    return left * torch.exp(-torch.logaddexp(torch.zeros_like(total), null - total))


def _log(share: float) -> float:
    return math.log(share) if share > 0 else NEG_INF
