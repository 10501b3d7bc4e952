"""Rows of tokens in which a passage is read once and everything asked about it branches off behind it.

    row:        passage 1  question 1  answer 1  question 2  answer 2   passage 2  question 3  answer 3   padding
    attends to: itself     passage 1, itself     passage 1, itself      itself     passage 2, itself      itself

A branch (question and answer) attends to its passage and to its own earlier tokens, and its positions go on behind
the passage, whatever is between them in the row. So each branch has the log-likelihoods that it has in a row of
its own, for the ~30 tokens of the branch in the place of the ~250 of passage and branch. All rows have one length,
for which a model is compiled once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixrag.generator import Prompt

OPEN_ROWS = 16
"""Rows that are filled at one time. With more there is less padding, and passages of like length come together."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A question and an answer behind a passage."""

    question: tuple[int, ...]
    answer: tuple[int, ...]
    """With the token that ends it; that token alone is the empty answer."""
    weight: float = 1.0
    """What its log-likelihood counts in the objective."""

    @property
    def size(self) -> int:
        """Tokens that are read: the last one of the answer is only predicted."""
        return len(self.question) + len(self.answer) - 1


@dataclass(frozen=True, slots=True)
class Tree:
    """A passage with its branches."""

    passage: tuple[int, ...]
    """Header and passage, as a prompt begins."""
    branches: tuple[Branch, ...]

    @property
    def size(self) -> int:
        """Tokens that are read."""
        return len(self.passage) + sum(branch.size for branch in self.branches)


Row = tuple[Tree, ...]
"""Trees that are read as one row."""


@dataclass(frozen=True, slots=True)
class Layout:
    """R rows of L tokens as a model reads them, and N places where the token of an answer is predicted."""

    ids: Tensor
    """(R, L)."""
    positions: Tensor
    """(R, L): of a branch they go on behind its passage."""
    attended: Tensor
    """(R, L, L) bool: whether the token of the second index is seen by that of the first."""
    rows: Tensor
    """(N,) the row of each place."""
    places: Tensor
    """(N,) the token after which it is predicted."""
    targets: Tensor
    """(N,) the token of the answer."""
    owners: Tensor
    """(N,) the branch that it belongs to, counted over all rows."""

    @property
    def branches(self) -> int:
        """Branches in all rows."""
        return int(self.owners[-1]) + 1


def branches_of(rows: Sequence[Row]) -> list[Branch]:
    """All branches in the order of a ``Layout``."""
    return [branch for row in rows for tree in row for branch in tree.branches]


def size_of(rows: Sequence[Row]) -> int:
    """Tokens that are read, without padding."""
    return sum(tree.size for row in rows for tree in row)


def pack(trees: Sequence[Tree], length: int, source: random.Random) -> list[Row]:
    """All branches, in rows of at most ``length`` tokens, in a random order.

    A tree that is longer is divided; each part reads the passage again. Rows are filled by best fit: a tree goes
    where it leaves the least room.

    Raises:
        ValueError: a passage with a single branch is longer than a row.
    """
    parts = [part for tree in trees for part in _divided(tree, length)]
    source.shuffle(parts)
    filled: list[Row] = []
    opened: list[tuple[int, list[Tree]]] = []
    for part in parts:
        fitting = [i for i, (used, _) in enumerate(opened) if used + part.size <= length]
        if fitting:
            best = max(fitting, key=lambda i: opened[i][0])
            used, some = opened[best]
            opened[best] = (used + part.size, [*some, part])
        else:
            opened.append((part.size, [part]))
        if len(opened) > OPEN_ROWS:
            fullest = max(range(len(opened)), key=lambda i: opened[i][0])
            filled.append(tuple(opened.pop(fullest)[1]))
    filled += [tuple(some) for _, some in opened]
    source.shuffle(filled)
    return filled


def _divided(tree: Tree, length: int) -> Iterator[Tree]:
    some: list[Branch] = []
    size = len(tree.passage)
    for branch in tree.branches:
        if len(tree.passage) + branch.size > length:
            raise ValueError(f"a branch of {branch.size} tokens behind {len(tree.passage)}, in a row of {length}")
        if some and size + branch.size > length:
            yield replace(tree, branches=tuple(some))
            some, size = [], len(tree.passage)
        some.append(branch)
        size += branch.size
    if some:
        yield replace(tree, branches=tuple(some))


def lay_out(rows: Sequence[Row], length: int) -> Layout:
    """The tensors of R rows of ``length`` tokens; what is left of a row is padding, which sees itself alone."""
    read = [_Reading(row, number) for number, row in enumerate(rows)]
    first = 0
    owners: list[int] = []
    for each in read:
        owners += [first + owner for owner in each.owners]
        first += each.branches
    trees = torch.stack([padded(each.trees, length, -1) for each in read])
    branches = torch.stack([padded(each.own, length, -1) for each in read])
    same_tree = trees[:, :, None] == trees[:, None, :]
    on_path = (branches[:, None, :] == -1) | (branches[:, :, None] == branches[:, None, :])
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    return Layout(
        torch.stack([padded(each.ids, length, 0) for each in read]),
        torch.stack([padded(each.positions, length, 0) for each in read]),
        same_tree & on_path & earlier,
        torch.tensor([each.number for each in read for _ in each.places]),
        torch.tensor([place for each in read for place in each.places]),
        torch.tensor([target for each in read for target in each.targets]),
        torch.tensor(owners),
    )


class _Reading:
    """One row, token by token."""

    def __init__(self, row: Row, number: int) -> None:
        self.number, self.branches = number, 0
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.trees: list[int] = []
        self.own: list[int] = []
        """The branch of each token; -1 of a passage."""
        self.places: list[int] = []
        self.targets: list[int] = []
        self.owners: list[int] = []
        for tree_number, tree in enumerate(row):
            self._read(tree.passage, 0, tree_number, -1)
            for branch in tree.branches:
                start = len(self.ids) + len(branch.question) - 1
                self.places += range(start, start + len(branch.answer))
                self.targets += branch.answer
                self.owners += [self.branches] * len(branch.answer)
                tokens = branch.question + branch.answer[:-1]
                self._read(tokens, len(tree.passage), tree_number, self.branches)
                self.branches += 1

    def _read(self, tokens: Sequence[int], position: int, tree: int, branch: int) -> None:
        self.ids += tokens
        self.positions += range(position, position + len(tokens))
        self.trees += [tree] * len(tokens)
        self.own += [branch] * len(tokens)


def padded(values: Sequence[int], length: int, filler: int) -> Tensor:
    """(L,) the values and as many fillers as it takes."""
    return torch.tensor([*values, *([filler] * (length - len(values)))])


def separate(rows: Sequence[Row]) -> tuple[list[Prompt], list[tuple[int, ...]]]:
    """Prompt and answer of each branch in a row of its own."""
    both = [(tree.passage, branch) for row in rows for tree in row for branch in tree.branches]
    prompts = [Prompt((), passage, branch.question) for passage, branch in both]
    return prompts, [branch.answer for _, branch in both]
