"""All groups of an engine: each step's rows, sorted into groups, and what they are given."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from mixrag.generator.vllm.group import Group, Row

REMEMBERED = 4096
"""Groups whose state is kept. A row of one that is forgotten finds a group without its answer, which is broken."""


class Mixer:
    """Hands the decisions of groups to the rows of each step.

    A group is remembered when none of its rows is in a step: they may be computed in turns with others, or come
    back after they were stopped.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._groups: OrderedDict[str, Group] = OrderedDict()

    def apply(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """The logits (R, V) of a step, of which the rows of groups are changed in place: one token is left."""
        for name in dict.fromkeys(row.member.spec.group for row in rows):
            own = [row for row in rows if row.member.spec.group == name]
            if max(row.member.spec.largest for row in own) >= logits.shape[-1]:
                continue  # not made for this model; an index out of range would end the engine
            token = self._group(own[0]).step(own, logits)
            places = torch.tensor([row.place for row in own], device=logits.device)
            logits[places] = -math.inf
            logits[places, token] = 0.0
        return logits

    def group(self, name: str) -> Group | None:
        """The group of a name; None where there was none, or it is forgotten."""
        return self._groups.get(name)

    def _group(self, row: Row) -> Group:
        name = row.member.spec.group
        found = self._groups.get(name)
        if found is None:
            found = self._groups[name] = Group(row.member.spec)
            if len(self._groups) > self._remembered:
                self._groups.popitem(last=False)
        self._groups.move_to_end(name)
        return found
