"""Components dropped while an answer is written, within a budget of total variation, and restored at its end.

As an answer grows, its posterior settles on few components. The others cost as much as ever and change next to
nothing: dropping them moves the distribution of the rest of the answer by no more than ``pruning_tv`` says. Their
likelihood of the tokens written is computed in one pass at the end, so that every number about the answer is that
of the whole mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixrag.generator.batching import DISTRIBUTIONS_AT_ONCE
from mixrag.generator.copying import CopyingGenerator
from mixrag.generator.mixed import language_model_of
from mixrag.generator.protocol import Branches, Generator
from mixrag.inference.decoding_state import DecodingState
from mixrag.probability import most_prunable

if TYPE_CHECKING:
    from mixrag.inference.mixture import Mixture

WORTHWHILE = 4
"""At least one in so many components must go: what is left is copied."""
MOST = 2
"""Where at least one in so many goes, all rows stay in memory: to read a few too many costs less than a copy."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Components that are no longer followed."""

    position: int
    """The token of the answer that they were the last to predict."""
    components: Tensor
    """(n,) their positions in the mixture."""
    branches: Branches | None
    """Rows that have read all tokens before that one; None: their prompts are read again."""
    rows: Tensor
    """(n,) those of the components."""


class Pruning:
    """The components of one answer that are still followed, and what the others have cost.

    Attributes:
        budget: total variation that may be spent on this answer; 0 drops nothing.
        spent: of it, by what was dropped along this answer. No answer spends more than the budget, so that the
            distribution of answers is within the budget of that of the mixture.
    """

    def __init__(self, budget: float = 0.0) -> None:
        self.budget, self.spent = budget, 0.0
        self.reads_again = False
        """Whether the prompts of what was dropped are read again at the end, and no rows of it stay meanwhile."""
        self.dropped: list[Dropped] = []
        self._size = 0  # K, once something is dropped
        self._followed: Tensor | None = None  # positions in the mixture; None: all
        self._read: list[tuple[Tensor, int, Tensor]] = []

    def drop(
        self, state: DecodingState, token: int, position: int, remaining: int, *, shared: bool = False
    ) -> Tensor | None:
        """Drop what need not read ``token``, the ``position``-th of an answer with ``remaining`` more to come.

        Returns (K',) places of the remaining components among the state's; None: all remain. Where
        some are dropped, continue with a ``select`` of the state's branches: the branches themselves may be needed
        here again, unless they are ``shared`` with other answers.
        """
        if not self.budget:
            return None
        device = state.log_weights.device
        answer, chosen = torch.tensor([0], device=device), torch.tensor([token], device=device)
        log_weights, rest = state.later_weights(answer, chosen)[0], self.budget - self.spent
        gone, spent = most_prunable(log_weights, state.log_prior, state.switch, remaining, rest)
        if len(gone) * WORTHWHILE < len(log_weights):
            return None
        if self._followed is None:
            self._size, self._followed = len(log_weights), torch.arange(len(log_weights))
        going_on = torch.ones_like(log_weights, dtype=torch.bool).index_fill(0, gone, False).nonzero()[:, 0]
        branches, rows = self._left(state.branches, gone, len(log_weights), shared=shared)
        self.dropped.append(Dropped(position, self._followed[gone.cpu()], branches, rows))
        self.spent += spent
        self._followed = self._followed[going_on.cpu()]
        return going_on

    def _left(
        self, branches: Branches, gone: Tensor, count: int, *, shared: bool
    ) -> tuple[Branches | None, Tensor]:
        """The branches of what is dropped, and its rows among them."""
        if self.reads_again:
            return None, gone
        if not shared and len(gone) * MOST >= count:
            return branches, gone
        return branches.select(gone), torch.arange(len(gone))

    def spread(self, values: Tensor, fill: float) -> Tensor:
        """(K,) of all components from the values (K',) of those followed; ``fill`` for the others."""
        if self._followed is None:
            return values
        return values.new_full((self._size,), fill).index_copy(0, self._followed.to(values.device), values)

    def restored(self, table: Tensor, tokens: Sequence[int], mixture: Mixture) -> Tensor:
        """(K, T): the table of likelihoods with the dropped components' likelihoods of ``tokens`` (T,).

        ``mixture``: that of the answer, whose prompts are read again where none of their rows stayed.
        """
        gone = [each for each in self.dropped if each.branches is None and each.position + 1 < len(tokens)]
        if gone:
            components = torch.cat([each.components for each in gone])
            prompts = [mixture.components[place].prompt for place in components.tolist()]
            found = mixture.generator.log_likelihood(prompts, tokens)
            starts = [each.position + 1 for each in gone]  # the token at ``position`` they did predict
            parts = found.split([len(each.components) for each in gone])
            self._read += [
                (each.components, start, part[:, start:])
                for each, start, part in zip(gone, starts, parts, strict=True)
            ]
        self._read += [
            (each.components, each.position, _all_read(each.branches, each, tokens))
            for each in self.dropped
            if each.branches is not None
        ]
        self.dropped = []
        for components, position, columns in self._read:
            table[components, position:] = columns.to(table)
        return table


def copies_slowly(generator: Generator) -> bool:
    """Whether rows of a generator that are copied cost more than to read them again."""
    found = language_model_of(generator)
    found = found.generator if isinstance(found, CopyingGenerator) else found
    return bool(getattr(found, "copies_rows_slowly", False))


def budget_for(budget: float, generator: Generator) -> float:
    """The budget of an answer whose dropped components will be restored; 0 where rows are copied slowly.

    There to copy them, or to read their prompts again, costs more than to follow them to the end.
    """
    return 0.0 if copies_slowly(generator) else budget


def _all_read(branches: Branches, dropped: Dropped, tokens: Sequence[int]) -> Tensor:
    """(n, T') of the tokens from ``position`` on, a few rows at a time: each row takes V numbers a token."""
    rest = tokens[dropped.position :]
    count, most = len(branches.log_probs), max(1, DISTRIBUTIONS_AT_ONCE // len(rest))
    if count <= most:
        return branches.score(rest)[dropped.rows.to(branches.log_probs.device)].cpu()
    return torch.cat([branches.select(some).score(rest).cpu() for some in dropped.rows.split(most)])
