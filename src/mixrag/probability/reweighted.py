"""The prior after a second look: how probable each component makes the question.

A language model that reads the question after a passage gives it a probability p(x | z_j). With a weight β ≥ 0

    w_j = π_j p(x | z_j)^β,    π'_j = (Σ_i π_i) w_j / Σ_i w_i

over the components of a mixture, the null component among them. It is a logarithmic pool of the retriever's
p(z | x) and the query likelihood p(x | z) (Ponte and Croft 1998, "A Language Modeling Approach to Information
Retrieval"; of language models: Sachan et al. 2022, "Improving Passage Retrieval with Zero-Shot Question
Generation"). β = 0 is the prior as retrieved; as β grows, the component that predicts x best takes all.

The total stays. What a truncated prior leaves out, ε = 1 - Σ π_j, has the mass that the retriever gives it: the
whole is a distribution over all passages whose mass outside is ε as before, and every statement of ``bounds``
holds with π' in place of π. Likewise every function of ``switching``, ``posterior`` and ``empty``.

The maximum-likelihood β has no closed form. With ℓ_j = p(y | x, z_j) and r the posterior under π',

    d log p(y | x) / dβ = Σ_j (r_j - π'_j) log p(x | z_j)

where p(y | x) = Σ π'_j ℓ_j: β rises while the passages that explain the answer also predict the question better
than the others. The second derivative is a difference of two variances of log p(x | z_j), under r and π', so that
the likelihood is in general not concave in β.

Shapes as in ``switching``: any leading dimensions *B, K components; in nats, float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_sum, log_sum_others

LARGEST_WEIGHT = 1.0
"""β = 1 is Bayes' rule with the retriever's distribution as the prior; no fit goes beyond it."""
_POINTS, _ROUNDS = 33, 5


def log_reweighted_prior(log_prior: Tensor, log_question: Tensor, weight: float | Tensor) -> Tensor:
    """log π'_j, shape (*B, K), from log π_j and log p(x | z_j), both (*B, K).

    Args:
        log_prior: log π_j; its total stays as it is.
        log_question: log p(x | z_j), the whole question's.
        weight: β ≥ 0.

    Where no component with any prior gives x a probability above 0, nothing is learnt, and π stays.

    Example:
        >>> prior, question = torch.tensor([0.5, 0.5]).double().log(), torch.tensor([0.1, 0.4]).double().log()
        >>> log_reweighted_prior(prior, question, 0.5).exp()
        tensor([0.3333, 0.6667], dtype=torch.float64)
    """
    joint = _log_weights(log_prior, log_question, weight)
    total = log_sum(joint, -1).unsqueeze(-1)
    known = total > NEG_INF
    moved = joint - total.masked_fill(~known, 0.0) + log_sum(log_prior, -1).unsqueeze(-1)
    return torch.where(known, moved, log_prior.expand_as(moved))


def reweighted_poisoning(
    log_prior: Tensor, log_question: Tensor, weight: float, log_answered: Tensor | None = None
) -> Tensor:
    """(*B, K) the largest π'_j that passage j can have whatever its text: with a text that makes x certain.

    (Σ_i π_i) π_j / (π_j + Σ_{i≠j} w_i). ``bounds.poisoning_tv`` of this mass bounds what rewriting the passage
    does to the distribution of answers. With ``log_answered``, log a_j = log(1 - p(∅ | x, z_j)), the largest that
    it can have given ≠∅: π_j / (π_j + Σ_{i≠j} w_i a_i), as in ``empty.answered_poisoning``.
    """
    joint = _log_weights(log_prior, log_question, weight)
    log_total = log_sum(log_prior, -1).unsqueeze(-1)
    if log_answered is not None:
        joint, log_total = joint + log_answered, torch.zeros_like(log_total)
    others = log_sum_others(joint, -1).clamp(min=_LEAST)
    most = torch.sigmoid(log_prior - others) * log_total.exp()
    return torch.where(log_prior == NEG_INF, torch.zeros_like(most), most)


def log_reweighted_marginal(
    log_prior: Tensor,
    log_question: Tensor,
    log_likelihood: Tensor,
    weight: float | Tensor,
    log_answered: Tensor | None = None,
) -> Tensor:
    """(*B,) log p(y | x) of answers under π' at switch 0, among the K components: π' divided by its total.

    Args:
        log_prior: (*B, K) log π_j; -inf for a component that is not there.
        log_question: (*B, K) log p(x | z_j).
        log_likelihood: (*B, K) log p(y | x, z_j) of the whole answer, or of any of several right ones.
        weight: β.
        log_answered: (*B, K) log(1 - p(∅ | x, z_j)): then the result is log p(y | x, ≠∅); None: no empty answer.
    """
    prior = log_reweighted_prior(log_prior, log_question, weight)
    answered = prior if log_answered is None else prior + log_answered
    return log_sum(prior + log_likelihood, -1) - log_sum(answered, -1).clamp(min=_LEAST)


def best_question_weight(
    log_prior: Tensor,
    log_question: Tensor,
    log_likelihood: Tensor,
    log_answered: Tensor | None = None,
    largest: float = LARGEST_WEIGHT,
) -> float:
    """The β in [0, ``largest``] that maximises Σ_b log p(y | x) of B pairs; arguments (B, K) as above.

    Since the sum need not be concave, it is computed at points of the whole range, closer together near 0, and
    then between the neighbours of the best one, again and again. Of equal ones the smallest wins: 0 where β
    changes nothing. Pairs that no component explains count as nothing; their log p is -inf for every β.
    """
    low, high = 0.0, largest
    points = torch.linspace(0.0, 1.0, _POINTS, dtype=torch.float64).square() * largest
    for _ in range(_ROUNDS):
        values = [
            log_reweighted_marginal(log_prior, log_question, log_likelihood, float(each), log_answered)
            for each in points
        ]
        best = int(torch.stack([each[each.isfinite()].sum() for each in values]).argmax())
        low, high = (float(points[min(max(0, place), len(points) - 1)]) for place in (best - 1, best + 1))
        found = float(points[best])
        # The best one stays among the points, so that a round never loses what was found.
        inside = torch.linspace(low, high, _POINTS, dtype=torch.float64)
        points = torch.cat([inside, points[best : best + 1]]).unique()
    return found


def _log_weights(log_prior: Tensor, log_question: Tensor, weight: float | Tensor) -> Tensor:
    """log w_j; β = 0 leaves π even where p(x | z_j) is 0."""
    weight = torch.as_tensor(weight, dtype=torch.float64, device=log_prior.device)
    joint = log_prior + weight * log_question
    return torch.where((weight == 0.0) | (log_prior == NEG_INF), log_prior.expand_as(joint), joint)


_LEAST = -1e300
"""Stands for -inf where that would be subtracted from itself."""
