"""A running batch: answers of several questions as rows of one batch, joined and left between its passes.

Where a pass of the model costs about the same for few rows as for many, this is what answers many at once. Every
answer is what it would be alone, up to the order of additions in larger batches, whoever joins or leaves
meanwhile: each has rows, weights and choices of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from mixrag.generator.protocol import Branches, can_join
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.empty_answer import AnsweredBranches
from mixrag.inference.mixture import Mixture, start_together
from mixrag.inference.protocol import DecodedToken, DecoderResult


class Writing(Protocol):
    """One answer, or a beam of answers, under way; whoever has it makes the passes of the model."""

    @property
    def mixture(self) -> Mixture:
        """What is decoded."""
        ...

    @property
    def rows(self) -> int:
        """The most rows that it takes in a batch: K for each answer that is followed."""
        ...

    @property
    def step(self) -> DecodedToken | None:
        """The token decided last, where tokens are decided one after the other; else None."""
        ...

    def extend(self, state: DecodingState) -> bool:
        """Choose what follows in this state; True where that is the end."""
        ...

    def drop(self, state: DecodingState) -> Tensor | None:
        """(K',) which of the state's components are followed further; None: all. After each ``extend``."""
        ...

    @property
    def continued(self) -> tuple[Tensor, Tensor]:
        """(W',) which answers of the state are followed further, and (W',) by which tokens."""
        ...

    def result(self) -> DecoderResult:
        """What was found, after the end."""
        ...


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


@dataclass(frozen=True, slots=True)
class Left:
    """An answer that has left the batch."""

    writing: Writing
    error: Exception | None = None
    """What was raised when it chose; None: it has ended."""


class RunningBatch:
    """Answers under way. One thread at a time may use it.

    >>> batch = RunningBatch()  # doctest: +SKIP
    >>> batch.add([greedy.begin(first, 64), greedy.begin(second, 64)])  # doctest: +SKIP
    >>> batch.step()  # a token of both  # doctest: +SKIP
    >>> batch.add([beam.begin(third, 64)])  # while the others are being written  # doctest: +SKIP
    >>> while len(batch):  # doctest: +SKIP
    ...     for left in batch.step():
    ...         print(left.writing.result().answers[0].text)
    """

    def __init__(self) -> None:
        self._under_way: list[tuple[Writing, DecodingState]] = []

    def __len__(self) -> int:
        """Answers under way."""
        return len(self._under_way)

    @property
    def rows(self) -> int:
        """The most rows that its answers take."""
        return sum(writing.rows for writing, _ in self._under_way)

    @property
    def joins(self) -> bool:
        """Whether further answers share its passes; else those that are added have passes of their own."""
        return all(can_join(_begun(cast(Share, state.branches).branches)) for _, state in self._under_way)

    def add(self, writings: Sequence[Writing]) -> None:
        """Let answers join; the prompts of all that have one generator are read together.

        Their generators are one, or differ in what ``JoiningBranches.join`` allows. Where something is raised none
        has joined, and those under way go on.
        """
        joining = list[tuple[Writing, DecodingState]]()
        alike = sorted(writings, key=lambda each: id(each.mixture.generator))
        for _, some in groupby(alike, lambda each: id(each.mixture.generator)):
            own = [*some]
            joining += zip(own, shared_states([each.mixture for each in own]), strict=True)
        self._under_way += joining

    def remove(self, writing: Writing) -> None:
        """Let an answer leave before its end; one that is not there is ignored."""
        self._under_way = [each for each in self._under_way if each[0] is not writing]

    def step(self) -> list[Left]:
        """Every answer chooses what follows, and one pass of the model reads it; returns those that have left.

        What the model raises is raised here; then nothing is left in the batch.
        """
        left, going = list[Left](), list[tuple[Writing, DecodingState]]()
        for writing, state in self._under_way:
            try:
                if writing.extend(state):
                    left.append(Left(writing))
                else:
                    going.append((writing, _followed(writing, state)))
            except Exception as error:
                left.append(Left(writing, error))
        self._under_way = []
        self._under_way = _advanced(going)
        return left


def write_together(writings: Sequence[Writing]) -> None:
    """Write answers side by side, from their beginnings to their ends."""
    batch = RunningBatch()
    batch.add(writings)
    while len(batch):
        for left in batch.step():
            if left.error is not None:
                raise left.error


def shared_states(mixtures: Sequence[Mixture]) -> list[DecodingState]:
    """The state of each mixture of one generator before the first token; their branches are a ``Share`` of one
    batch.
    """
    branches = start_together(mixtures)
    places = torch.arange(len(branches.log_probs), device=branches.log_probs.device)
    rows = places.split([len(mixture.components) for mixture in mixtures])
    return [mixture.state(Share(branches, own)) for mixture, own in zip(mixtures, rows, strict=True)]


def _followed(writing: Writing, state: DecodingState) -> DecodingState:
    """The state without the components that the answer drops."""
    followed = writing.drop(state)
    if followed is None:
        return state
    share = cast(Share, state.branches)
    return state.only(followed, Share(share.branches, share.rows[followed]))


@dataclass(frozen=True, slots=True)
class _Next:
    """What one answer reads in the next pass."""

    writing: Writing
    state: DecodingState
    branches: Branches
    rows: Tensor
    """(R,) of these branches."""
    tokens: Tensor
    """(R,)"""
    log_weights: Tensor
    """(W', K) after these tokens."""

    def after(self, share: Share) -> tuple[Writing, DecodingState]:
        return self.writing, self.state.continued(*self.writing.continued, share, self.log_weights)


def _advanced(going: Sequence[tuple[Writing, DecodingState]]) -> list[tuple[Writing, DecodingState]]:
    """Every answer with its state after the tokens that it has chosen: one pass, where all can share it."""
    alike: dict[int, list[_Next]] = {}
    for each in going:
        found = _next(*each)
        alike.setdefault(id(found.branches), []).append(found)
    parts = [*alike.values()]
    if len(parts) > 1 and all(can_join(part[0].branches) for part in parts):
        first, *others = [(part[0].branches, _rows(part)) for part in parts]
        joined: Any = cast(Any, first[0]).join(first[1], others)
        together = [each for part in parts for each in part]
        return _read(joined, torch.arange(len(_rows(together)), device=first[1].device), together)
    return [each for part in parts for each in _read(part[0].branches, _rows(part), part)]


def _next(writing: Writing, state: DecodingState) -> _Next:
    share, size = cast(Share, state.branches), state.log_weights.shape[1]
    parents, chosen = (each.to(share.rows.device) for each in writing.continued)
    places = parents[:, None] * size + torch.arange(size, device=parents.device)
    rows, tokens = share.rows[places.flatten()], chosen.repeat_interleave(size)
    return _Next(writing, state, _begun(share.branches), rows, tokens, state.later_weights(parents, chosen))


def _read(branches: Branches, rows: Tensor, part: Sequence[_Next]) -> list[tuple[Writing, DecodingState]]:
    """One pass for answers whose rows are these, in their order."""
    advanced = branches.advance(rows, torch.cat([each.tokens for each in part]))
    places = torch.arange(len(advanced.log_probs), device=rows.device)
    own = places.split([len(each.rows) for each in part])
    return [each.after(Share(advanced, place)) for each, place in zip(part, own, strict=True)]


def _rows(part: Sequence[_Next]) -> Tensor:
    return torch.cat([each.rows for each in part])


def _begun(branches: Branches) -> Branches:
    """The rows as they are after their first token, which is no longer given ≠∅."""
    return branches.branches if isinstance(branches, AnsweredBranches) else branches
