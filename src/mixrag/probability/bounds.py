"""How far the distribution of answers can move: certificates for truncation, pruning and poisoning.

All rest on one coupling of two switching mixtures that differ only in where a draw of the hidden passage may
land. Let a draw differ with probability ``first`` at the first token and ``later`` at each re-draw; a re-draw
happens with probability ρ. Both hidden paths agree over T tokens with probability at least
(1-first)(1-ρ·later)^(T-1), and where they agree the answers have the same distribution. One minus this
therefore bounds the total variation distance (TV) between the two distributions of the answer (coupling
inequality), and, for a prior truncated to a subset, also what the remaining paths can miss of any single answer's
probability.

Where ρ_t depends on the answer so far (``switching``), both paths agree as long as they have written the same
text, so that their ρ_t are equal, and the factors are 1-ρ_t·later. Of one given answer the ρ_t are known: the
statements about its probability take them, a (T,) tensor. Statements about the distribution of answers hold for
all texts, and take the largest: ρ at every token is always valid.

Masses are plain probabilities, tensors of any one shape or floats; results are float64; lengths are token counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import log_normalise, log_sum
from mixrag.probability.switching import Switch, in_range


def escape_mass(first: Tensor | float, later: Tensor | float, switch: Switch, length: int) -> Tensor:
    """1 - (1-first)(1-ρ·later)^(T-1): the probability that a hidden path meets a changed passage.

    With ρ_t in ``switch`` (T,) it is 1 - (1-first) Π_{t<T} (1-ρ_t·later): nothing follows the last token.

    Raises:
        ValueError: ``switch`` or a mass outside [0, 1], ``length`` below 1, or another length of ``switch``.
    """
    if isinstance(switch, Tensor) and switch.shape not in ((), (length,)):
        raise ValueError(f"expected switch over {length} tokens; found {tuple(switch.shape)}")
    # float64 at once: a float would become a float32 tensor first, and a bound that is rounded down is none.
    first, later = (torch.as_tensor(mass, dtype=torch.float64) for mass in (first, later))
    masses_valid = bool(((first >= 0) & (first <= 1)).all() and ((later >= 0) & (later <= 1)).all())
    if not (in_range(switch) and masses_valid and length >= 1):
        raise ValueError(
            f"expected switch and masses in [0, 1] and length >= 1; found {switch}, {first}, {later}, {length}"
        )
    # expm1 and log1p: a tiny mass does not vanish against the one; xlog1py makes 0 · log 0 zero.
    if isinstance(switch, Tensor) and switch.dim():
        chances = switch[:-1].to(later)
        log_agree = torch.log1p(-chances * later.unsqueeze(-1)).sum(-1)
    else:
        log_agree = torch.special.xlog1py(torch.tensor(length - 1.0, dtype=torch.float64), -switch * later)
    return -torch.expm1(torch.log1p(-first) + log_agree)


def truncation_tv(dropped_prior: Tensor | float, switch: Switch, length: int) -> Tensor:
    """TV between the answer distributions of the full and the truncated, renormalised mixture.

    ε at switch 0, 1-(1-ε)^T at switch 1, where ε is the prior mass of the passages left out.
    """
    return escape_mass(dropped_prior, dropped_prior, switch, length)


def next_token_tv(dropped_prior: Tensor | float, switch: Tensor | float) -> Tensor:
    """TV between the next token's distributions of the full and the truncated mixture after the same text.

    1 - ρ_t (1-ε), where ρ_t is the probability that the passage is drawn again before this token: ε where it
    always is (RAG-Token, and the first token of an answer), and between the ends of sentences 1, which is no
    statement. There the text itself may have decided for a passage that was left out.
    """
    dropped, chance = (torch.as_tensor(mass, dtype=torch.float64) for mass in (dropped_prior, switch))
    if not (in_range(dropped) and in_range(chance)):
        raise ValueError(f"expected switch and mass in [0, 1]; found {switch}, {dropped_prior}")
    return (1.0 - chance) + chance * dropped


def log_truncation_bracket(
    log_inside: Tensor, dropped_prior: Tensor | float, switch: Switch, length: int
) -> tuple[Tensor, Tensor]:
    """Lower and upper bound on the full mixture's log p(y | x).

    ``log_inside`` is the log marginal over the retrieved passages under their share of the *full* prior (total
    1-ε, not renormalised). The paths left out carry at most ``escape_mass``: L ≤ p ≤ L + ε at switch 0.
    """
    missed = escape_mass(dropped_prior, dropped_prior, switch, length)
    log_inside = log_inside.double()
    log_missed = missed.to(log_inside.device).log().expand_as(log_inside)
    return log_inside, log_sum(torch.stack([log_inside, log_missed]), 0).clamp(max=0.0)


def is_certainly_best(
    log_best: Tensor, log_other: Tensor, dropped_prior: Tensor | float, switch: Switch, length: int
) -> Tensor:
    """True where the leading answer is the full mixture's best, whatever the passages left out contain.

    Its lead over ``log_other``, the best of all the others, must reach what those others can still gain.
    """
    missed = escape_mass(dropped_prior, dropped_prior, switch, length)
    # In log space, where the tiniest probabilities can still be distinguished.
    return log_best.double() >= torch.logaddexp(log_other.double(), missed.to(log_other.device).log())


def pruning_tv(
    dropped_weight: Tensor | float, dropped_prior: Tensor | float, switch: Switch, remaining: int
) -> Tensor:
    """TV between the distributions of the remaining tokens with and without components dropped in mid-answer.

    ``dropped_weight`` is their mass among the predictive weights of the next token, ``dropped_prior`` their
    mass in the prior. At switch 0 only the first counts (a decided component does not come back); at switch 1
    the weights are the prior. Several prunings of one answer add up.
    """
    return escape_mass(dropped_weight, dropped_prior, switch, remaining)


def most_prunable(
    log_weights: Tensor, log_prior: Tensor, switch: Switch, remaining: int, budget: float
) -> tuple[Tensor, float]:
    """The most components that may be dropped in mid-answer, the lightest first, and what that spends.

    Args:
        log_weights: (K,) predictive weights of the next token; only their proportions count.
        log_prior: (K,) of the same components.
        switch: ρ. Where the passage changes at the ends of sentences alone, ρ is still what is paid for, since
            each token to come may end one.
        remaining: tokens still to come.
        budget: total variation that may be spent.

    Returns:
        Positions (n,) with n < K, and their ``pruning_tv``, at most ``budget``.
    """
    order = log_weights.argsort()
    weight = log_normalise(log_weights.double(), -1)[order].exp().cumsum(0)[:-1].clamp(max=1.0)
    prior = log_normalise(log_prior.double(), -1)[order].exp().cumsum(0)[:-1].clamp(max=1.0)
    spent = pruning_tv(weight, prior, switch, remaining)
    affordable = int((spent <= budget).sum())  # it rises along the order
    return order[:affordable], float(spent[affordable - 1]) if affordable else 0.0


def poisoning_tv(prior: Tensor | float, switch: Switch, length: int) -> Tensor:
    """TV by which rewriting the text of one passage can move the distribution of the answer.

    π_j at switch 0, 1-(1-π_j)^T at switch 1. The passage's prior does not change: this bounds what its text
    does to the language model, not what it does to the retriever.
    """
    return escape_mass(prior, prior, switch, length)
