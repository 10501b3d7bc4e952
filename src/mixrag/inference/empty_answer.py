"""The empty answer in the branches of a language model: read with the first token, which it then leaves out.

Prompts are read once: the distribution of the first token, from which an answer is written or scored, is also what
gives p(∅ | x, z_j). A generator needs nothing for it beyond its stop tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mixrag.generator.batching import DISTRIBUTIONS_AT_ONCE
from mixrag.generator.protocol import Branches, Generator, Prompt
from mixrag.probability import log_answered_likelihood, log_answered_rows, split_first_token

ROWS_AT_ONCE = 64
"""Prompts that are read together where nothing is written: bounds memory, not the result."""


@dataclass(frozen=True, slots=True)
class EmptyAnswers:
    """What each component gives to the empty answer and to all others; (K,) float64 on the CPU."""

    log_empty: Tensor
    """log p(∅ | x, z_j)."""
    log_answered: Tensor
    """log(1 - p(∅ | x, z_j)), summed over the other tokens; -inf where ∅ is certain."""

    def part(self, components: Sequence[int]) -> EmptyAnswers:
        """Those of some components."""
        return EmptyAnswers(self.log_empty[[*components]], self.log_answered[[*components]])


@dataclass(frozen=True)
class AnsweredBranches:
    """Branches before their first token, given that an answer is not empty; see ``Branches`` for each member.

    A row that is certain of ∅ stays as it is.
    """

    branches: Branches
    log_answered: Tensor
    """(R,) float64, on the device of the rows; 0 for rows without an empty answer."""
    conditional: Tensor
    """(R,) True for rows that have one."""
    stop_tokens: Tensor
    """(S,)"""

    @cached_property
    def log_probs(self) -> Tensor:
        """(R, V) given ≠∅."""
        rows = self.branches.log_probs
        answered = log_answered_rows(rows, self.log_answered, self.stop_tokens)
        return torch.where(self.conditional[:, None], answered, rows)

    def advance(self, rows: Tensor, tokens: Tensor) -> Branches:
        """After the first token nothing is left out."""
        return self.branches.advance(rows, tokens)

    def select(self, rows: Tensor) -> AnsweredBranches:
        """See ``Branches.select``."""
        rows = rows.to(self.log_answered.device)
        part = self.branches.select(rows)
        return AnsweredBranches(part, self.log_answered[rows], self.conditional[rows], self.stop_tokens)

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``: the first token divided by 1 - p(∅ | x, z_j)."""
        likelihood = self.branches.score(tokens)
        answered = log_answered_table(likelihood, tokens, self.log_answered, self.stop_tokens)
        return torch.where(self.conditional[:, None], answered, likelihood.double())


def answered_branches(
    branches: Branches, stop_tokens: frozenset[int], conditional: Sequence[bool]
) -> tuple[AnsweredBranches, EmptyAnswers]:
    """Rows that have not begun, given ≠∅ where ``conditional`` (R,) says so, and what they give to ∅."""
    device = branches.log_probs.device
    stops = torch.tensor(sorted(stop_tokens), dtype=torch.long, device=device)
    log_empty, log_answered = split_first_token(branches.log_probs, stops)
    chosen = torch.tensor([*conditional], dtype=torch.bool, device=device)
    found = EmptyAnswers(log_empty.cpu(), log_answered.cpu())
    return AnsweredBranches(branches, log_answered, chosen, stops), found


def log_answered_table(
    log_likelihood: Tensor, tokens: Sequence[int], log_answered: Tensor, stop_tokens: Tensor
) -> Tensor:
    """(R, T) likelihoods of an answer given ≠∅, from those of the model; impossible for one that is empty."""
    log_likelihood = log_likelihood.double()
    table = log_answered_likelihood(log_likelihood, log_answered.to(log_likelihood.device))
    if tokens and bool((stop_tokens == tokens[0]).any()):
        certain = (log_answered == -torch.inf).to(table.device)
        table[:, 0] = torch.where(certain, log_likelihood[:, 0], -torch.inf)
    return table


def read_prompts(
    generator: Generator, prompts: Sequence[Prompt], tokens: Sequence[int] = ()
) -> tuple[EmptyAnswers, Tensor]:
    """What the prompts give to ∅, and the likelihoods (K, T) of T given tokens after them, as the model has them.

    Each prompt is read once, a few at a time.
    """
    empty, tables = list[EmptyAnswers](), list[Tensor]()
    rows = max(1, min(ROWS_AT_ONCE, DISTRIBUTIONS_AT_ONCE // max(1, len(tokens))))
    for first in range(0, len(prompts), rows):
        some = prompts[first : first + rows]
        branches = generator.start(some)
        empty.append(answered_branches(branches, generator.stop_tokens, [True] * len(some))[1])
        tables.append(branches.score(tokens).double().cpu() if tokens else torch.empty(len(some), 0).double())
    both = (torch.cat([each.log_empty for each in empty]), torch.cat([each.log_answered for each in empty]))
    return EmptyAnswers(*both), torch.cat(tables)
