"""DecodingState: answers under way, as rows of the language model and the weights that mix them.

For every switch the next token's distribution is a mixture over the components, so the rows and their filtered
weights are all that decoding needs to carry. One step is Bayes' rule over the components (``filtered``), then the
transition with probability ρ (``later_weights``): the forward algorithm of a hidden Markov model. Where the
passage changes at the ends of sentences only, ρ is 0 elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixrag.generator.protocol import Branches
from mixrag.inference.sentence_switch import AnswersSoFar
from mixrag.probability import Switch, leading, log_mix, log_normalise, log_sum, log_transition


@dataclass(frozen=True)
class DecodingState:
    """W answers being written side by side: K rows of the model for each, and its filtered weights."""

    branches: Branches
    """Rows in the order (W, K)."""
    log_weights: Tensor
    """(W, K) log p(z = j | x, y so far): what mixes the next token."""
    log_prior: Tensor
    """(K,) of the components that are followed, K of them; its total stays that of the mixture."""
    switch: float
    """ρ."""
    so_far: AnswersSoFar | None = None
    """The W answers, where the passage changes at the ends of sentences only; None: between any two tokens."""

    def log_probs(self) -> Tensor:
        """(W, K, V) log p(next token | x, z_j, answer so far)."""
        return self._rows().to(self.log_weights.dtype)

    def log_mixed(self) -> Tensor:
        """(W, V) log p(next token | x, answer so far)."""
        return log_mix(self.log_weights, self.log_probs())

    def leading(self, log_before: Tensor, count: int, never: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The ``count`` most probable continuations of W answers with log-probabilities ``log_before`` (W,).

        The tokens ``never`` (N,) are left out, and what is impossible. Returns (C,) log-probabilities of the
        continued answers, most probable first, which answers they continue, and by which tokens.
        """
        rows = self._rows()
        size = rows.shape[-1]
        values, places = leading(log_before, self.log_weights, rows, min(count, len(rows) * size), never)
        possible = values > -math.inf
        return values[possible], places[possible] // size, places[possible] % size

    def likelihood(self, answers: Tensor, tokens: Tensor) -> Tensor:
        """(W', K) log p(token | x, z_j, answer so far) for chosen answers (W',) and their tokens (W',)."""
        return self._rows()[answers, :, tokens].to(self.log_weights.dtype)

    def filtered(self, answers: Tensor, tokens: Tensor) -> Tensor:
        """(W', K) log p(z = j | x, answer so far with its new token): Bayes' rule."""
        return log_normalise(self.log_weights[answers] + self.likelihood(answers, tokens), -1)

    def later_weights(self, answers: Tensor, tokens: Tensor) -> Tensor:
        """(W', K) what mixes the token after these: as ``filtered``, then re-drawn with probability ρ."""
        return log_transition(self.filtered(answers, tokens), self.log_prior, self._switch_after(answers, tokens))

    def advance(self, answers: Tensor, tokens: Tensor) -> DecodingState:
        """Continue the answers ``answers`` (W',), by one token each (W',)."""
        device, size = self.log_weights.device, self.log_weights.shape[1]
        answers, tokens = answers.to(device), tokens.to(device)
        weights = self.later_weights(answers, tokens)
        rows = (answers[:, None] * size + torch.arange(size, device=device)).flatten()
        branches = self.branches.advance(rows, tokens.repeat_interleave(size))
        return self.continued(answers, tokens, branches, weights)

    def continued(self, answers: Tensor, tokens: Tensor, branches: Branches, log_weights: Tensor) -> DecodingState:
        """As ``advance``, with the rows that have read these tokens and their ``later_weights`` (W', K)."""
        so_far = None if self.so_far is None else self.so_far.after(answers, tokens)
        return replace(self, branches=branches, log_weights=log_weights, so_far=so_far)

    def only(self, components: Tensor, branches: Branches) -> DecodingState:
        """Follow some components (K',) of one answer alone, with their rows; weights as between themselves."""
        total = log_sum(self.log_prior, 0)
        log_prior = log_normalise(self.log_prior[components], 0) + total
        weights = log_normalise(self.log_weights[:, components], -1)
        return replace(self, branches=branches, log_weights=weights, log_prior=log_prior)

    def _switch_after(self, answers: Tensor, tokens: Tensor) -> Switch:
        """ρ, or (W',) one for each answer with its new token."""
        if self.so_far is None:
            return self.switch
        return self.switch * self.so_far.ended(answers, tokens).to(self.log_weights)

    def _rows(self) -> Tensor:
        """(W, K, V) as the model gives them, in its own dtype."""
        rows: Tensor = self.branches.log_probs.unflatten(0, self.log_weights.shape)
        return rows
