"""Key-value states of the rows of a causal model: buffers that grow in place, and may begin with passages read.

A token's states depend on the tokens before it alone. Header and passages come first in every prompt, so that
their states are the same for every question. Those of several passages are theirs in this order alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

ROOM = 32
"""Tokens yet to be written for which a buffer has room."""

_KEYS_AND_VALUES = (DynamicLayer, DynamicSlidingWindowLayer)


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer (R, G, L, D): R rows, G key-value heads, L tokens so far, D values a head.

    A new token is written into room kept behind the last one, where ``DynamicLayer`` copies all that is there.
    """

    buffer: Tensor
    """(2, R, G, L + room, D)."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append (R, G, T, D) to both; all tokens so far are returned."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.is_initialized or self.buffer.shape[-2] < end:
            self._grow(key_states, end + max(ROOM, end // 8))
        self.buffer[0, :, :, start:end] = key_states
        self.buffer[1, :, :, start:end] = value_states
        self._show(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Rows ``beam_idx`` (R',) in the place of all rows; the room behind the last token is not copied."""
        end, rows = self.get_seq_length(), beam_idx.to(self.buffer.device)
        buffer = self.buffer.new_empty(2, len(rows), *self.buffer.shape[2:])
        torch.index_select(self.buffer[:, :, :, :end], 1, rows, out=buffer[:, :, :, :end])
        self.buffer = buffer
        self._show(end)

    def batch_select_indices(self, indices: Tensor) -> None:
        """As ``reorder_cache``."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row so many times in a row."""
        self.reorder_cache(torch.arange(self.buffer.shape[1]).repeat_interleave(repeats))

    def fill(self, states: Tensor, length: int) -> None:
        """Begin with the buffer ``states`` (2, R, G, L + room, D), of which ``length`` = L is there."""
        self.lazy_initialization(states[0], states[1])
        self.buffer = states
        self._show(length)

    def _grow(self, like: Tensor, length: int) -> None:
        rows, heads, _, size = like.shape
        buffer = like.new_empty(2, rows, heads, length, size)
        if not self.is_initialized:
            self.lazy_initialization(like, like)
        else:
            buffer[:, :, :, : self.keys.shape[-2]] = self.buffer[:, :, :, : self.keys.shape[-2]]
        self.buffer = buffer

    def _show(self, end: int) -> None:
        self.keys, self.values = self.buffer[0, :, :, :end], self.buffer[1, :, :, :end]


def uncacheable(config: Any) -> str | None:
    """Why states of a model with this configuration cannot be kept and joined; None: nothing is against it."""
    if stretched := _stretched(config):
        return f"its rotary positions ({stretched}) depend on how much is read at once"
    layers = DynamicCache(config=config).layers
    if not layers:
        return "its layers are not known before it is run"
    other = next((type(each).__name__ for each in layers if type(each) not in _KEYS_AND_VALUES), None)
    return None if other is None else f"a layer keeps other states than keys and values ({other})"


def _stretched(config: Any) -> str | None:
    """A kind of rotary positions whose frequencies change with the length of what is read in one pass."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [each for each in (parameters, *parameters.values()) if isinstance(each, dict)]
    return next((each["rope_type"] for each in kinds if each.get("rope_type") in ("dynamic", "longrope")), None)


def empty_states(config: Any) -> Cache:
    """States of rows of which nothing has been read."""
    return Cache(layers=[GrowingLayer() for _ in DynamicCache(config=config).layers])


def states_of(config: Any, prefixes: Sequence[Tensor], more: int) -> tuple[Cache, Tensor]:
    """The states of R rows that begin with these prefixes, each (layers, 2, G, P, D), their ends aligned.

    With them the mask (R, longest P), False where a row has nothing. There is room for ``more`` tokens, which are
    to be read, and some to be written.
    """
    lengths = [prefix.shape[-2] for prefix in prefixes]
    longest, first = max(lengths), prefixes[0]
    layers, _, heads, _, size = first.shape
    buffer = first.new_empty(layers, 2, len(prefixes), heads, longest + more + ROOM, size)
    for row, (prefix, length) in enumerate(zip(prefixes, lengths, strict=True)):
        buffer[:, :, row, :, : longest - length] = 0  # masked, but whatever stood there times nothing may be NaN
        buffer[:, :, row, :, longest - length : longest] = prefix
    cache = empty_states(config)
    for layer, states in zip(cache.layers, buffer, strict=True):
        layer.fill(states, longest)
    starts = torch.tensor([longest - length for length in lengths], device=first.device)
    return cache, torch.arange(longest, device=first.device) >= starts.unsqueeze(1)


def rows_of(cache: Cache, lengths: Sequence[int]) -> list[Tensor]:
    """The states (layers, 2, G, P, D) of each row of a cache, P its last tokens, as copies."""
    both = torch.stack([torch.stack((layer.keys, layer.values)) for layer in cache.layers])
    end = both.shape[-2]
    return [both[:, :, row, :, end - length :].clone() for row, length in enumerate(lengths)]
