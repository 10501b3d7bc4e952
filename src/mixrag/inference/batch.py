"""Several questions answered side by side: the branches of all of them are rows of one batch.

A pass of the model costs about the same for few rows as for many. What comes out is, question by question, what
``greedy`` alone writes, up to the order of additions in larger batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mixrag.inference.continuous import write_together
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.protocol import DecodedToken, DecoderResult
from mixrag.inference.pruning import Pruning
from mixrag.inference.stepwise import Draw, most_probable, next_step, scored

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
    found = [Written(mixture, max_tokens, Pruning(budget)) for mixture in mixtures]
    write_together(found)
    return found


@dataclass(eq=False)
class Written:
    """An answer under way, token by token; a ``Writing``."""

    mixture: Mixture
    max_tokens: int
    """Longest answer."""
    pruning: Pruning
    choose: Callable[[DecodingState], int] = most_probable
    """From the state of the one answer to the id of its next token."""
    steps: list[DecodedToken] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """K."""
        return len(self.mixture.components)

    @property
    def step(self) -> DecodedToken | None:
        """The last token."""
        return self.steps[-1] if self.steps else None

    def extend(self, state: DecodingState) -> bool:
        """See ``Writing.extend``: by the token that ``choose`` finds."""
        step = next_step(state, self.choose, self.pruning)
        drawn = self.choose.log_drawn if isinstance(self.choose, Draw) else None
        self.steps.append(replace(step, log_drawn=drawn))
        return self.steps[-1].token in self.mixture.generator.stop_tokens or len(self.steps) == self.max_tokens

    def drop(self, state: DecodingState) -> Tensor | None:
        """See ``Writing.drop``: within the budget of ``pruning``."""
        remaining = self.max_tokens - len(self.steps)
        return self.pruning.drop(state, self.steps[-1].token, len(self.steps) - 1, remaining, shared=True)

    @property
    def continued(self) -> tuple[Tensor, Tensor]:
        """See ``Writing.continued``: the one answer, by its last token."""
        return torch.tensor([0]), torch.tensor([self.steps[-1].token])

    def scored(self) -> ScoredAnswer:
        """The answer, its table complete."""
        return scored(self.mixture, self.steps, self.pruning)

    def result(self) -> DecoderResult:
        """See ``Writing.result``."""
        drawn = [step.log_drawn for step in self.steps if step.log_drawn is not None]
        log_drawn = math.fsum(drawn) if isinstance(self.choose, Draw) else None
        return DecoderResult((self.scored(),), pruned=self.pruning.spent, log_drawn=log_drawn)
