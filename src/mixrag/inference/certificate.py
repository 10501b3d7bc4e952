"""The certificate of a search: that no other answer is more probable, also without rounding.

Every answer is one that the search has finished, or begins with a prefix that it has cut or still follows, and is
then at most as probable as that prefix. What each of these can be without rounding is an end of an interval
(``probability.rounding``): the answer found must reach the largest upper end with its lower end.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.probability import log_forward, log_shifted, log_sum, log_transition


class Prefix(Protocol):
    """An answer, or how one begins."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """(T,)."""
        ...

    @property
    def columns(self) -> tuple[Tensor, ...]:
        """T tensors (K,): its likelihoods, token by token."""
        ...


class Others:
    """What the answers of a search other than its best can be at most.

    Attributes:
        log_most: log of it; -inf where there is no other.
    """

    def __init__(self, mixture: Mixture) -> None:
        self.mixture, self.rounding, self.log_most = mixture, mixture.rounding, -math.inf
        self._log_prior = mixture.shifted_log_prior(self.rounding)

    def seen(self, prefixes: Sequence[Prefix]) -> None:
        """Answers, and prefixes still followed, of equal or unequal lengths."""
        for prefix in prefixes:
            self._note(float(log_sum(self._log_joint(prefix), 0)))

    def cut(
        self,
        state: DecodingState,
        prefixes: Sequence[Prefix],
        followed: Collection[tuple[int, int]],
        never: Tensor,
        log_next_best: float,
    ) -> None:
        """All continuations of W prefixes of a state, other than those ``followed``: (prefix, token).

        Args:
            state: it has not read those tokens yet.
            prefixes: those W.
            followed: continuations that are not cut.
            never: (N,) tokens that continue none: those that end an answer.
            log_next_best: log-probability, as computed, of the most probable continuation that is cut.
        """
        if not self.rounding:
            return self._note(log_next_best)
        joint = torch.stack([self._log_next_weights(prefix) for prefix in prefixes]).to(state.log_weights)
        before = log_sum(joint, -1)  # (W,) upper ends
        weights = joint - before.unsqueeze(-1).clamp(min=-1e300)
        values, parents, tokens = replace(state, log_weights=weights).leading(before, len(followed) + 1, never)
        found = zip(values.tolist(), parents.tolist(), tokens.tolist(), strict=True)
        largest = next((value for value, *place in found if tuple(place) not in followed), -math.inf)
        # Σ u g(e) ≤ U g(Σ u e / U) for weights u with sum U: the shift g is concave. It rises with U.
        most = before.max().cpu()
        self._note(float(most + log_shifted((largest - most).clamp(max=0.0), self.rounding)))

    def certify(self, answer: ScoredAnswer) -> bool:
        """Whether no other is more probable."""
        return answer.log_interval[0] >= self.log_most

    def _log_joint(self, prefix: Prefix) -> Tensor:
        """(K,) upper ends of log p(z_T = j, y_1..y_T | x)."""
        if not prefix.columns:
            return self._log_prior
        table = log_shifted(torch.stack([*prefix.columns], -1).double().cpu(), self.rounding)
        return log_forward(self._log_prior, table, self.mixture.switches(prefix.tokens))[..., -1]

    def _log_next_weights(self, prefix: Prefix) -> Tensor:
        """(K,) the same of log p(z_T+1 = j, y_1..y_T | x)."""
        joint = self._log_joint(prefix)
        if not prefix.columns:
            return joint
        switch = self.mixture.switches(prefix.tokens)
        last = switch[-1] if isinstance(switch, Tensor) else switch
        return log_transition(joint, self._log_prior, last)

    def _note(self, log_prob: float) -> None:
        self.log_most = max(self.log_most, log_prob)
