"""DecodingState: answers under way, as rows of the language model and the weights that mix them.

For every switch the next token's distribution is a mixture over the components, so the rows and their filtered
weights are all that decoding needs to carry. One step is Bayes' rule over the components (``filtered``), then the
transition with probability ρ (``later_weights``): the forward algorithm of a hidden Markov model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.generator.protocol import Branches
from mixrag.probability import leading, log_mix, log_normalise, log_sum, log_transition


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
        return log_transition(self.filtered(answers, tokens), self.log_prior, self.switch)

    def advance(self, answers: Tensor, tokens: Tensor) -> DecodingState:
        """Continue the answers ``answers`` (W',), by one token each (W',)."""
        device, size = self.log_weights.device, self.log_weights.shape[1]
        answers, tokens = answers.to(device), tokens.to(device)
        weights = self.later_weights(answers, tokens)
        rows = (answers[:, None] * size + torch.arange(size, device=device)).flatten()
        branches = self.branches.advance(rows, tokens.repeat_interleave(size))
        return DecodingState(branches, weights, self.log_prior, self.switch)

    def only(self, components: Tensor, branches: Branches) -> DecodingState:
        """Follow some components (K',) of one answer alone, with their rows; weights as between themselves."""
        total = log_sum(self.log_prior, 0)
        log_prior = log_normalise(self.log_prior[components], 0) + total
        weights = log_normalise(self.log_weights[:, components], -1)
        return DecodingState(branches, weights, log_prior, self.switch)

    def _rows(self) -> Tensor:
        """(W, K, V) as the model gives them, in its own dtype."""
        rows: Tensor = self.branches.log_probs.unflatten(0, self.log_weights.shape)
        return rows
