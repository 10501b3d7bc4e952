"""The mixture's next token where each component lists only its most probable ones: bounds, and a certificate.

Component j has a filtered weight W_j = p(z_t = j, y_<t | x) and says p(v | x, z_j, y_<t) of the tokens v that it
lists; of any other token it says no more than 0 <= p <= u_j (``listed``). The mixture Σ_j W_j p(v | x, z_j, y_<t)
of a token therefore lies in an interval. Where a token was chosen that a component did not list, the weight of
that component is an interval from then on: the forward recursion rises with every likelihood, so that its ends are
the ends of the weight.

Shapes: K components, C tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.probability.listed import Listed
from mixrag.probability.logspace import NEG_INF, log_sum_others
from mixrag.probability.switching import log_transition

Interval = tuple[Tensor, Tensor]
"""Lower and upper ends (K,) of numbers in log space."""


@dataclass(frozen=True, slots=True)
class NextToken:
    """The token that the lists say most for, and what else may be as probable.

    Attributes:
        token: its id.
        certified: no other token is more probable under the mixture.
        rivals: listed tokens that may be more probable.
        beyond: a token that no component lists may be more probable.
    """

    token: int
    certified: bool
    rivals: tuple[int, ...]
    beyond: bool


def next_token(log_weights: Interval, lists: list[Listed]) -> NextToken:
    """The most probable next token of the mixture, as far as the lists say.

    Token v is certainly at least as probable as w where, d_j being the least p_j(v) less the largest p_j(w),

        Σ_j (W_j's lower end where d_j >= 0, else its upper end) d_j >= 0

    Args:
        log_weights: between what each W_j lies; their scale does not matter.
        lists: what each component lists; at least one of them lists a token.

    Example:
        >>> weight = torch.tensor([0.5, 0.5]).log()
        >>> lists = [Listed({7: math.log(0.7)}, math.log(0.3)), Listed({7: math.log(0.4)}, math.log(0.4))]
        >>> next_token((weight, weight), lists)
        NextToken(token=7, certified=True, rivals=(), beyond=False)
    """
    tokens = sorted({token for each in lists for token in each.log_probs})
    lower, upper = (_table(lists, tokens, end) for end in (NEG_INF, None))
    scale = log_weights[1].double().max().clamp(min=-1e300)  # where no component has any mass
    low, high = ((end.double() - scale).exp()[:, None] for end in log_weights)
    least, most = (low * lower[:, :-1]).sum(0), (high * upper[:, :-1]).sum(0)
    best = max(range(len(tokens)), key=lambda place: (float(least[place]), float(most[place])))
    ahead = lower[:, best : best + 1] - upper
    lead = (torch.where(ahead >= 0, low, high) * ahead).sum(0)  # (C + 1,), the last one over tokens not listed
    behind = [place for place, value in enumerate(lead.tolist()) if not value >= 0.0 and place != best]
    rivals = tuple(tokens[place] for place in behind if place < len(tokens))
    return NextToken(tokens[best], not behind, rivals, len(tokens) in behind)


def token_interval(lists: list[Listed] | tuple[Listed, ...], token: int) -> Interval:
    """Between what log p(token | x, z_j, y_<t) lies: both ends are equal where component j lists it
    exactly.
    """
    lower = [each.log_probs.get(token, NEG_INF) for each in lists]
    upper = [each.upper(token) for each in lists]
    return torch.tensor(lower, dtype=torch.float64), torch.tensor(upper, dtype=torch.float64)


def interval_after(log_weights: Interval, log_token: Interval) -> Interval:
    """log p(z_t = j, y_1..y_t | x), from the weights before the token and what each component says of it."""
    return log_weights[0] + log_token[0], log_weights[1] + log_token[1]


def interval_before_next(log_joint: Interval, log_prior: Tensor, switch: float) -> Interval:
    """The weights W_j of the next token: the passage is drawn again with probability ρ."""
    lower, upper = (log_transition(end, log_prior.double(), switch) for end in log_joint)
    return lower, upper


def posterior_interval(log_joint: Interval) -> Interval:
    """Between what log p(z_j | x, y) lies at switch 0, for an answer with log p(z_j, y | x) in intervals.

    It rises with that of component j and falls with that of every other one.
    """
    lower = _share(log_joint[0], log_sum_others(log_joint[1], 0))
    upper = _share(log_joint[1], log_sum_others(log_joint[0], 0))
    return lower, upper


def _share(log_own: Tensor, log_others: Tensor) -> Tensor:
    share = -torch.nn.functional.softplus(log_others - log_own)
    # Where neither has any mass, nothing is known; a component without mass has none of the posterior.
    share = torch.where(log_others == NEG_INF, torch.zeros_like(share), share)
    return torch.where(log_own == NEG_INF, torch.full_like(share, NEG_INF), share)


def _table(lists: list[Listed] | tuple[Listed, ...], tokens: list[int], rest: float | None) -> Tensor:
    """(K, C + 1) lower ends with ``rest`` as the logarithm for what is not listed; upper ends where it is None."""
    rows = []
    for each in lists:
        if rest is None:
            rows.append([*map(each.upper, tokens), each.log_rest])
        else:
            rows.append([*(each.log_probs.get(token, rest) for token in tokens), rest])
    return torch.tensor(rows, dtype=torch.float64).exp()
