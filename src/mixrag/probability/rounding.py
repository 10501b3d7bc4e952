"""What a probability can be without rounding: intervals from a bound h on the log-odds of each next token.

A language model in bfloat16 gives other numbers than in float32, and others again where more rows are read
together. Rounding adds an error to every logit. Let the errors of the logits of one distribution differ by at most
h; an error that all have alike cancels in the softmax. Then the log-odds of every set of tokens, also given that
one of a larger set comes, are off by at most h:

    p e^-h / (1 - p + p e^-h)  ≤  the probability without rounding  ≤  p e^h / (1 - p + p e^h)

A marginal is a sum of products of priors and likelihoods, and rises with each of them. So with all of them at one
end of their intervals it is at one end of its own, whatever the errors have in common. Shapes and symbols as in
``switching`` and ``empty``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixrag.probability.empty import log_missing
from mixrag.probability.logspace import NEG_INF, log_sum_others


def log_shifted(log_prob: Tensor, log_odds: float) -> Tensor:
    """log of the probability whose log-odds are ``log_odds`` above those of p; 0 and 1 stay what they are.

    >>> log_shifted(torch.tensor([0.2]).log(), math.log(2)).exp()
    tensor([0.3333])
    """
    return (log_prob + log_odds - torch.log1p(math.expm1(log_odds) * log_prob.exp())).clamp(max=0.0)


def shifted_answered_prior(log_prior: Tensor, log_answered: Tensor, log_odds: float) -> Tensor:
    """An end of the interval of log p(z_j | x, ≠∅), shape (*B, K): the upper one for h, the lower one for -h.

    ``log_answered_prior`` with a_j at one end and those of all others at the other end.
    """
    joint = log_prior + log_shifted(log_answered, log_odds)
    others = log_sum_others(log_prior + log_shifted(log_answered, -log_odds), -1)
    others = torch.logaddexp(others, log_missing(log_prior).unsqueeze(-1))
    return torch.where(joint == NEG_INF, joint, -torch.nn.functional.softplus(others - joint))
