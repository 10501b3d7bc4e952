"""The certificate of a search: that no other answer is more probable, also without rounding.

Every answer is one that the search has finished, or begins with a prefix that it has cut or still follows, and is
then at most as probable as that prefix. What each of these can be without rounding is an end of an interval
(``probability.rounding``): the answer found must reach the largest upper end with its lower end.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.probability import log_shifted, log_sum, log_transition


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


class _Upper(NamedTuple):
    """A prefix as probable as it can be without rounding."""

    log_joint: Tensor
    """(K,) log p(z_T = j, y_1..y_T | x)."""
    switch: float
    """How probably the passage is drawn again after it; 0 before the first token, where it is drawn anyway."""


class Others:
    """What the answers of a search other than its best can be at most.

    Attributes:
        log_most: log of it; -inf where there is no other.
    """

    def __init__(self, mixture: Mixture) -> None:
        self.mixture, self.rounding, self.log_most = mixture, mixture.rounding, -math.inf
        self._log_prior = mixture.shifted_log_prior(self.rounding)
        # Of the prefixes that were last followed: a long answer is not computed again for each of its tokens.
        self._known: dict[tuple[int, ...], _Upper] = {(): _Upper(self._log_prior, 0.0)}

    def seen(self, prefixes: Sequence[Prefix]) -> None:
        """Answers, and prefixes still followed, of equal or unequal lengths."""
        for prefix in prefixes:
            self._note(float(log_sum(self._upper(prefix).log_joint, 0)))

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
        uppers = [self._upper(prefix) for prefix in prefixes]
        self._known = {prefix.tokens: upper for prefix, upper in zip(prefixes, uppers, strict=True)}
        if not self.rounding:
            return self._note(log_next_best)
        each = [log_transition(upper.log_joint, self._log_prior, upper.switch) for upper in uppers]
        joint = torch.stack(each).to(state.log_weights)
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

    def _upper(self, prefix: Prefix) -> _Upper:
        tokens, length = prefix.tokens, len(prefix.tokens)
        start = next((t for t in (length, length - 1) if tokens[:t] in self._known), 0)
        found = self._known[tokens[:start]] if start else _Upper(self._log_prior, 0.0)
        for t in range(start, length):
            ready = log_transition(found.log_joint, self._log_prior, found.switch)
            likelihood = log_shifted(prefix.columns[t].double().cpu(), self.rounding)
            found = _Upper(ready + likelihood, self.mixture.switch_after(tokens[: t + 1]))
        return found

    def _note(self, log_prob: float) -> None:
        self.log_most = max(self.log_most, log_prob)
