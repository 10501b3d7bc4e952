"""Distributions of which only the most probable tokens are known, and a bound on answers that were not seen.

Servers of language models return the n most probable next tokens. Every other token is then at most as probable as
the last of these, and all others together are what is left of one. Where each of K components has been read along
some candidate answers, every other answer leaves their trie at some prefix by some token, and is at most as
probable as that prefix with that token: the largest of these is a bound on all answers that are no candidates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixrag.probability.logspace import log_sum
from mixrag.probability.switching import log_transition

SLACK = 1e-5
"""What rounding of n numbers may hide of the mass that they leave."""

Prefix = tuple[int, ...]


class Listed:
    """What is known of the distribution of one next token.

    Attributes:
        log_probs: log p of the tokens that are listed.
        log_rest: what log p of any other token is at most.
        log_slack: by how much log p of a listed token may be larger; 0 where it is exact.
    """

    __slots__ = ("log_probs", "log_rest", "log_slack")

    def __init__(self, log_probs: dict[int, float], log_rest: float, log_slack: float = 0.0) -> None:
        self.log_probs, self.log_rest, self.log_slack = log_probs, log_rest, log_slack

    def __repr__(self) -> str:
        """As it is made."""
        slack = f", {self.log_slack}" if self.log_slack else ""
        return f"Listed({self.log_probs}, {self.log_rest}{slack})"

    def upper(self, token: int) -> float:
        """What log p of a token is at most: itself where it is listed and exact."""
        own = self.log_probs.get(token)
        return self.log_rest if own is None else min(0.0, own + self.log_slack)

    def with_others(self, other: Listed) -> Listed:
        """What both say of one distribution; of a token that both list, the first."""
        slack = max((each.log_slack for each in (self, other) if each.log_probs), default=0.0)
        return Listed({**other.log_probs, **self.log_probs}, min(self.log_rest, other.log_rest), slack)


def listed(log_probs: dict[int, float], given: int | None = None, slack: float = SLACK) -> Listed:
    """The bound that follows from a list of the most probable tokens.

    Args:
        log_probs: their log p, and that of ``given``.
        given: a token that is in the list whatever its rank, so that others may lie between it and the list.
        slack: probability by which the sum of the list may be too large.

    Example:
        >>> found = listed({3: math.log(0.5), 7: math.log(0.3)})
        >>> round(math.exp(found.log_rest), 3)
        0.2
    """
    ranked = [value for token, value in log_probs.items() if token != given]
    left = 1.0 - math.fsum(map(math.exp, log_probs.values())) + slack
    return Listed(log_probs, min([*ranked, math.log(max(left, slack, 1e-300)), 0.0]))


def log_most_elsewhere(
    log_prior: Tensor,
    known: list[dict[Prefix, Listed]],
    candidates: list[Prefix] | set[Prefix],
    max_tokens: int,
    switch: float | dict[Prefix, float] = 0.0,
) -> float:
    """log B: no answer that is not among the candidates is more probable than B under the mixture.

    An answer ends with a stop token, or is cut off at ``max_tokens``. At switch 0

        B = max over prefixes n of the trie, v not following n in it, of Σ_j π_j ℓ_j(n) u_j(v | n)

    with u exact where v is listed, else the bound on what is not; a prefix of which a component says nothing has
    u = 1. At other switches the forward algorithm takes the place of the product: it rises with every u.

    Args:
        log_prior: (K,).
        known: for each component, what was listed after each prefix.
        candidates: whole answers, of at most ``max_tokens`` tokens. What follows one of them is no other answer.
        max_tokens: where answers are cut off.
        switch: ρ, or ρ_t after each prefix of a candidate, of at least one token.
    """
    children: dict[Prefix, set[int]] = {(): set()}
    for answer in candidates:
        for t, token in enumerate(answer):
            children.setdefault(answer[:t], set()).add(token)
    log_prior = log_prior.double()
    joint: dict[Prefix, Tensor] = {(): log_prior}
    most = -math.inf
    for prefix in sorted(children, key=len):
        if len(prefix) >= max_tokens:
            continue
        weights = log_prior
        if prefix:
            weights = log_transition(
                joint[prefix], log_prior, switch[prefix] if isinstance(switch, dict) else switch
            )
        after = [each.get(prefix) for each in known]
        inside = children[prefix]
        leaving = {token for each in after if each is not None for token in each.log_probs} - inside
        columns = [*sorted(inside), *sorted(leaving)]
        upper = _upper(after, columns)  # (K, tokens + 1), the last one for any token that no one lists
        mixed = weights[:, None] + upper
        for place, token in enumerate(sorted(inside)):
            joint[*prefix, token] = mixed[:, place]
        most = max(most, float(log_sum(mixed[:, len(inside) :], 0).max()))
    return most


def _upper(after: list[Listed | None], tokens: list[int]) -> Tensor:
    rows = [
        [0.0] * (len(tokens) + 1) if each is None else [*map(each.upper, tokens), each.log_rest] for each in after
    ]
    return torch.tensor(rows, dtype=torch.float64)
