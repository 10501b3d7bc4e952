"""Several questions answered side by side: the branches of all of them are rows of one batch.

A pass of the model costs about the same for few rows as for many. What comes out is, question by question, what
``greedy`` alone writes, up to the order of additions in larger batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mixrag.generator.protocol import Branches
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture, ScoredAnswer, start_together
from mixrag.inference.protocol import DecodedToken
from mixrag.inference.pruning import Pruning
from mixrag.inference.stepwise import most_probable, next_step, scored

ROWS = 64
"""Components in one batch of the language model: bounds its memory."""


def greedy_in_batches(
    mixtures: Sequence[Mixture], max_tokens: int, budget: float
) -> Iterator[tuple[ScoredAnswer, float]]:
    """Each answer of ``greedy_together`` with what it spent; as many mixtures at a time as make up ``ROWS``."""
    for batch in batches_by_rows(mixtures, ROWS):
        for written in greedy_together(batch, max_tokens, budget):
            yield written.scored(), written.pruning.spent


def batches_by_rows(mixtures: Sequence[Mixture], rows: int) -> Iterator[list[Mixture]]:
    """The mixtures in their order, as many at a time as have at most ``rows`` components, but at least one."""
    batch: list[Mixture] = []
    for mixture in mixtures:
        if batch and sum(len(each.components) for each in (*batch, mixture)) > rows:
            yield batch
            batch = []
        batch.append(mixture)
    if batch:
        yield batch


def greedy_together(mixtures: Sequence[Mixture], max_tokens: int, budget: float = 0.0) -> list[Written]:
    """The most probable next token of each of several mixtures of one generator, until every answer ends.

    Args:
        mixtures: one or more; their components are read together, so that memory is that of all of them.
        max_tokens: longest answer.
        budget: of ``Pruning``, for each answer.
    """
    found = [Written(mixture, [], Pruning(budget)) for mixture in mixtures]
    states = shared_states(mixtures)
    for position in range(max_tokens):
        under_way: list[tuple[Written, DecodingState]] = []
        for written, state in zip([each for each in found if not each.ended], states, strict=True):
            step = next_step(state, most_probable, written.pruning)
            written.steps.append(step)
            if not written.ended:
                under_way.append((written, state))
        if not under_way or position + 1 == max_tokens:
            break
        states = _advanced(under_way, position, max_tokens - position - 1)
    return found


def shared_states(mixtures: Sequence[Mixture]) -> list[DecodingState]:
    """The state of each mixture before the first token; their branches are a ``Share`` of one batch."""
    branches = start_together(mixtures)
    places = torch.arange(len(branches.log_probs), device=branches.log_probs.device)
    rows = places.split([len(mixture.components) for mixture in mixtures])
    log_priors = [mixture.log_prior.to(places.device) for mixture in mixtures]
    return [
        DecodingState(Share(branches, own), log_prior[None], log_prior, mixture.switch)
        for mixture, own, log_prior in zip(mixtures, rows, log_priors, strict=True)
    ]


@dataclass(frozen=True)
class Written:
    """An answer under way among others."""

    mixture: Mixture
    steps: list[DecodedToken]
    pruning: Pruning

    @property
    def ended(self) -> bool:
        """True where the last token ended it."""
        return bool(self.steps) and self.steps[-1].token in self.mixture.generator.stop_tokens

    def scored(self) -> ScoredAnswer:
        """The answer, its table complete."""
        return scored(self.mixture, self.steps, self.pruning)


@dataclass(frozen=True)
class Share:
    """The rows of one question among those of several, as branches."""

    branches: Branches
    rows: Tensor
    """(R,)"""

    @property
    def log_probs(self) -> Tensor:
        """(R, V)."""
        return self.branches.log_probs[self.rows]

    def select(self, rows: Tensor) -> Branches:
        """See ``Branches.select``."""
        return self.branches.select(self.rows[rows])

    def advance(self, rows: Tensor, tokens: Tensor) -> Branches:
        """See ``Branches.advance``; the other rows stay as they are."""
        return self.branches.select(self.rows).advance(rows, tokens)

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``."""
        return self.branches.select(self.rows).score(tokens)


def _advanced(
    under_way: Sequence[tuple[Written, DecodingState]], position: int, remaining: int
) -> list[DecodingState]:
    """The states of all answers under way, each with its last token, after one pass of the model."""
    rows, tokens, weights, log_priors = [], [], [], []
    for written, state in under_way:
        share, token = cast(Share, state.branches), written.steps[-1].token
        followed = written.pruning.drop(state, token, position, remaining, shared=True)
        if followed is not None:
            share = Share(share.branches, share.rows[followed])
            state = state.only(followed, share)
        chosen = torch.tensor([token], device=share.rows.device)
        rows.append(share.rows)
        tokens.append(chosen.expand(len(share.rows)))
        weights.append(state.later_weights(torch.zeros_like(chosen), chosen))
        log_priors.append(state.log_prior)
    branches = cast(Share, under_way[0][1].branches).branches.advance(torch.cat(rows), torch.cat(tokens))
    places = torch.arange(len(branches.log_probs), device=branches.log_probs.device).split([*map(len, rows)])
    shares = [Share(branches, place) for place in places]
    return [
        DecodingState(share, each, log_prior, written.mixture.switch)
        for (written, _), share, each, log_prior in zip(under_way, shares, weights, log_priors, strict=True)
    ]
