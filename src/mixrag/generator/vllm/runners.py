"""Where the rows of groups are in a step, for both of vLLM's model runners; vLLM itself is not imported.

The first runner (V1) has a persistent batch: it tells what was removed, added and moved, and a request's place
is its row. Model Runner V2 gives each request a slot, does not tell when it leaves, and lays the rows of each step
out anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from mixrag.generator.vllm.group import Member, Row, member_of


class _Params(Protocol):
    extra_args: dict[str, Any] | None


class _Direction(Protocol):
    @property
    def name(self) -> str: ...


class BatchUpdate(Protocol):
    """``vllm.v1.sample.logits_processor.BatchUpdate``."""

    @property
    def removed(self) -> Sequence[int]: ...
    @property
    def added(self) -> Sequence[tuple[int, Any, Any, list[int]]]: ...
    @property
    def moved(self) -> Sequence[tuple[int, int, Any]]: ...


class LogitsContext(Protocol):
    """``vllm.v1.worker.gpu.sample.logits_processor.interface.LogitsContext``."""

    @property
    def expanded_idx_mapping(self) -> Tensor: ...
    @property
    def idx_mapping_np(self) -> Any: ...
    @property
    def input_ids(self) -> Tensor: ...
    @property
    def pos(self) -> Tensor: ...


def member_or_none(params: _Params) -> Member | None:
    """The group of a request; a request whose arguments are malformed is of none, and written as any other.

    They are refused when it is made (``validate_params``); here an error would end the engine.
    """
    try:
        return member_of(params.extra_args)
    except ValueError:
        return None


class PersistentBatch:
    """The rows of groups in V1's batch.

    The list of a request's output tokens is the engine's own and grows with it. It does not show whether a prompt
    is read to the end: rows that are not have a time of 0 like those that are, and what they sample is thrown
    away.
    """

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Member, list[int]]] = {}

    def update(self, update: BatchUpdate | None) -> None:
        """Follow the changes of the batch, in vLLM's order: removed, added, moved."""
        if update is None:
            return
        for place in update.removed:
            self._rows.pop(place, None)
        for place, params, _, output in update.added:
            self._put(place, None if (member := member_or_none(params)) is None else (member, output))
        for source, target, direction in update.moved:
            first, second = self._rows.pop(source, None), self._rows.pop(target, None)
            self._put(target, first)
            if direction.name == "SWAP":
                self._put(source, second)

    def rows(self) -> list[Row]:
        """The rows of groups, each at its place."""
        found = []
        for place, (member, output) in self._rows.items():
            found.append(Row(place, member, len(output), output[-1] if output else None))
        return found

    def _put(self, place: int, row: tuple[Member, list[int]] | None) -> None:
        if row is None:
            self._rows.pop(place, None)
        else:
            self._rows[place] = row


class RequestSlots:
    """The rows of groups in the steps of Model Runner V2.

    The place of a row in its sequence says how much of prompt and answer it has read.
    """

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}

    def add(self, slot: int, params: _Params) -> bool:
        """A request takes a slot, whoever had it before; whether it is of a group."""
        member = member_or_none(params)
        if member is None:
            self._members.pop(slot, None)
            return False
        self._members[slot] = member
        return True

    def rows(self, context: LogitsContext) -> list[Row]:
        """The rows of groups in a step.

        With speculative decoding a request has several rows: then a group's rows are not one for each component,
        which breaks it.
        """
        if not any(int(slot) in self._members for slot in context.idx_mapping_np):
            return []  # without waiting for the device
        slots, positions, tokens = (
            each.tolist() for each in (context.expanded_idx_mapping, context.pos, context.input_ids)
        )
        found = []
        for place, (slot, position, token) in enumerate(zip(slots, positions, tokens, strict=True)):
            member = self._members.get(slot)
            if member is not None:
                time = position + 1 - member.prompt
                found.append(Row(place, member, time, token if time > 0 else None))
        return found
