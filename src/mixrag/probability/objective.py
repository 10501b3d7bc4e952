"""What learning from pairs maximises: the marginal likelihood, its EM surrogate, distillation into the prior.

All are functions of the two tables that the model gives for a question, log π and log e. Shapes and symbols as
in ``switching``; the A gold answers of one question have an axis before K:

    log_likelihood  (*B, A, K, T)      mask  (*B, A, T)      present  (*B, A)

Losses are in nats, one for each question. An answer of probability zero has an infinite loss with gradient
zero: no entry of the tables can make it possible.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_normalise, log_sum
from mixrag.probability.switching import Switch, expected_draws, log_marginal, log_smoothing


def marginal_loss(log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None) -> Tensor:
    """-log p(y | x), shape (*B,), with gradient in both tables (Lewis et al. 2020, section 2.4).

    Its gradient in log e_t(j) is -p(z_t = j | x, y), and in log π_j minus the expected number of draws of j.

    Raises:
        ValueError: ``switch`` outside [0, 1], or shapes that do not fit.

    Example:
        >>> prior, likelihood = torch.tensor([0.75, 0.25]), torch.tensor([[0.5, 0.1], [0.2, 0.8]])
        >>> marginal_loss(prior.log(), likelihood.log(), switch=0.0)  # -log(.75*.5*.1 + .25*.2*.8)
        tensor(2.5575)
    """
    return -log_marginal(log_prior, log_likelihood, switch, mask)


def log_any_marginal(
    log_prior: Tensor,
    log_likelihood: Tensor,
    switch: Switch,
    mask: Tensor | None = None,
    present: Tensor | None = None,
) -> Tensor:
    """log Σ_a p(y_a | x), shape (*B,): the log-probability that the answer is one of the A gold ones.

    Different answers, each with the token that ends it, are disjoint events, so their probabilities add up;
    the same answer given twice would count twice. Where ``present`` is False there is no such answer (padding)
    and nothing is added; -inf for a question without any.

    Args:
        log_prior: (*B, K), shared by a question's answers.
        log_likelihood: (*B, A, K, T).
        switch: ρ in [0, 1], or (*B, A, T).
        mask: (*B, A, T), True at the tokens of each answer; None = all True.
        present: (*B, A), False at padding; None = all True.

    Raises:
        ValueError: ``switch`` outside [0, 1], or shapes that do not fit.
    """
    log_each = log_marginal(log_prior.unsqueeze(-2), log_likelihood, switch, mask)  # (*B, A)
    if present is not None:
        log_each = log_each.masked_fill(~present, NEG_INF)
    return log_sum(log_each, -1)


class Responsibilities:
    """Result of the E-step: what is expected of the hidden passages; constant in the M-step."""

    def __init__(self, tokens: Tensor, draws: Tensor) -> None:
        self._tokens, self._draws = tokens, draws

    @property
    def tokens(self) -> Tensor:
        """(*B, K, T) p(z_t = j | x, y): probability that passage j wrote token t; 0 at padding."""
        return self._tokens

    @property
    def draws(self) -> Tensor:
        """(*B, K) expected number of times that passage j was drawn from the prior."""
        return self._draws


def e_step(
    log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None
) -> Responsibilities:
    """The hidden passages given question and answer, without gradient (Rabiner 1989, section III.C).

    All zero for an answer of probability zero.

    Raises:
        ValueError: ``switch`` outside [0, 1], or shapes that do not fit.
    """
    with torch.no_grad():
        tokens = log_smoothing(log_prior, log_likelihood, switch, mask).exp()
    return Responsibilities(tokens, expected_draws(log_prior, log_likelihood, switch, mask))


def em_loss(log_prior: Tensor, log_likelihood: Tensor, responsibilities: Responsibilities) -> Tensor:
    """-Q, minus the expected log-likelihood of answer and hidden passages together, shape (*B,).

        Q = Σ_j draws_j log π_j + Σ_{j,t} tokens_{j,t} log e_t(j)

    up to the switches' own probability, a constant. Whatever lowers this loss lowers -log p(y | x) by at least
    as much (Dempster, Laird and Rubin 1977, theorem 1). Where the E-step was made, its gradient is that of
    -log p(y | x) (Fisher's identity).
    """
    written = _expected(responsibilities.tokens, log_likelihood).sum((-2, -1))
    return -(_expected(responsibilities.draws, log_prior).sum(-1) + written)


def log_target(
    log_prior: Tensor,
    log_answer_likelihood: Tensor,
    prior_power: float = 1.0,
    likelihood_temperature: float = 1.0,
) -> Tensor:
    """log r, shape (*B, K), with r ∝ π^a ℓ^(1/τ): where the prior should go once the answer is known.

    (a, τ) = (1, 1) is the posterior, the target of EM at switch 0; a = 0 is the target of perplexity
    distillation, which does not ask what the retriever thought before. A passage that is not in the prior
    (π = 0) is in no target either, not even at a = 0. -inf throughout where no passage is left.

    Args:
        log_prior: (*B, K).
        log_answer_likelihood: (*B, K), log ℓ of whole answers, or per token (divided by T) as in Atlas' code.
        prior_power: a >= 0.
        likelihood_temperature: τ > 0.

    Raises:
        ValueError: a or τ outside its range.
    """
    if not (0.0 <= prior_power < math.inf and 0.0 < likelihood_temperature < math.inf):
        found = f"{prior_power} and {likelihood_temperature}"
        raise ValueError(f"expected prior_power >= 0 and likelihood_temperature > 0; found {found}")
    outside = log_prior == NEG_INF
    log_weights = (
        prior_power * log_prior.masked_fill(outside, 0.0) + log_answer_likelihood / likelihood_temperature
    )
    return log_normalise(log_weights.masked_fill(outside, NEG_INF), -1)


def distillation_loss(log_prior: Tensor, log_target: Tensor, reverse: bool = False) -> Tensor:
    """KL(r ‖ π), shape (*B,), with gradient in the prior only; ``reverse`` gives KL(π ‖ r).

    KL(r ‖ π) is Atlas' perplexity distillation (Izacard et al. 2022, section 2.2), KL(π ‖ r) the loss of
    REPLUG LSR (Shi et al. 2023, section 4). The first takes a truncated prior as it is: r is then a distribution
    over all passages that happens to be zero outside. The second would be infinite there, and compares with the
    prior normalised over the K components, as REPLUG does. Infinite, with gradient zero, where the second one
    excludes what the first one allows.

    Args:
        log_prior: (*B, K).
        log_target: (*B, K) normalised, from ``log_target``; taken as a constant.
        reverse: which of the two divergences.
    """
    target = log_target.detach()
    return _divergence(log_normalise(log_prior, -1), target) if reverse else _divergence(target, log_prior)


def score_gradient(
    log_prior: Tensor, log_likelihood: Tensor, switch: Switch, mask: Tensor | None = None
) -> Tensor:
    """∂ log p(y | x) / ∂ s_j for a prior π_j = e^{s_j} / Z, shape (*B, K): draws - π Σ draws.

    At switch 0 posterior minus prior. Z may also sum over passages outside the K (a truncated prior).

    Raises:
        ValueError: ``switch`` outside [0, 1], or shapes that do not fit.
    """
    draws = expected_draws(log_prior, log_likelihood, switch, mask)
    return draws - log_prior.detach().exp() * draws.sum(-1, keepdim=True)


def contributing_branches(coefficients: Tensor, budget: float) -> Tensor:
    """True, shape (*B, K), at the branches that must take part in the backward pass.

    A branch's coefficient is Σ_t |c_{j,t}| with c_{j,t} = ∂ loss / ∂ log e_t(j); for the marginal loss it is
    the expected number of tokens that j wrote. For each question, the branches with the smallest ones are left
    out as long as they sum to at most ``budget`` times the question's total. Budget 0 is exact: it leaves out
    what contributes nothing.

    The error is bounded. By the chain rule the gradient in the generator's weights is Σ_j Σ_t c_{j,t} ∇log e_t(j),
    so without a set D of branches it changes by

        ‖Σ_{j∈D} Σ_t c_{j,t} ∇log e_t(j)‖  ≤  Σ_{j∈D} Σ_t |c_{j,t}| ‖∇log e_t(j)‖  ≤  budget · total · G

    by the triangle inequality, where G is the largest ‖∇log e_t(j)‖ of a token in D.

    Args:
        coefficients: (*B, K), at least 0. All branches of a question contribute where one is not finite.
        budget: share of a question's total in [0, 1).

    Raises:
        ValueError: ``budget`` outside [0, 1).
    """
    if not 0.0 <= budget < 1.0:
        raise ValueError(f"expected a budget in [0, 1); found {budget}")
    ascending, order = coefficients.detach().double().sort(-1)
    limit = budget * ascending.sum(-1, keepdim=True)
    contributes = (ascending.cumsum(-1) > limit) | ~limit.isfinite()
    return torch.empty_like(contributes).scatter_(-1, order, contributes)


def _expected(weights: Tensor, log_x: Tensor) -> Tensor:
    """Terms w log x, where nothing is expected of what has weight zero: 0 · log 0 = 0."""
    return weights * torch.where(weights > 0, log_x, torch.zeros_like(log_x))


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q), shape (*B,), with 0 · log 0 = 0."""
    outside_p, outside_q = log_p == NEG_INF, log_q == NEG_INF
    log_ratio = log_p.masked_fill(outside_p | outside_q, 0.0) - log_q.masked_fill(outside_p | outside_q, 0.0)
    total = (log_p.exp() * log_ratio).sum(-1)
    return total.masked_fill((outside_q & ~outside_p).any(-1), math.inf)
