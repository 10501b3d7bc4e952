"""Key-value states of the rows of a causal model: buffers that grow in place and may start with a cached prefix.

The states of a token depend only on the tokens before it. Header and passages come first in every prompt, so their
states are the same for every question. With several passages in a prompt they hold for this order only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

SPARE = 32
"""Tokens to come for which a new buffer has space."""

_KEYS_AND_VALUES = (DynamicLayer, DynamicSlidingWindowLayer)
_DYNAMIC_ROPE = ("dynamic", "longrope")


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer (R, G, L, D): R rows, G key-value heads, L tokens so far, D values a head.

    A new token is written into free space after the last one, where ``DynamicLayer`` would copy everything.
    """

    buffer: Tensor
    """(2, R, G, L + spare, D)."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append (R, G, T, D) to both; returns keys and values of all tokens so far."""
        if self.is_initialized and self.buffer.device != key_states.device:
            self.buffer = self.buffer.to(key_states.device)  # a cached prefix, in a model spread over devices
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.is_initialized or self.buffer.shape[-2] < end:
            self._grow(key_states, end + max(SPARE, end // 8))
        self.buffer[0, :, :, start:end] = key_states
        self.buffer[1, :, :, start:end] = value_states
        self._show(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Replace all rows by the rows ``beam_idx`` (R',); the free space is not copied."""
        end, rows = self.get_seq_length(), beam_idx.to(self.buffer.device)
        buffer = self.buffer.new_empty(2, len(rows), *self.buffer.shape[2:])
        if buffer.device.type == "mps":  # where ``out`` with strides is not relied on
            buffer[:, :, :, :end] = self.buffer[:, :, :, :end].index_select(1, rows)
        else:
            torch.index_select(self.buffer[:, :, :, :end], 1, rows, out=buffer[:, :, :, :end])
        self.buffer = buffer
        self._show(end)

    def reorder_ends(self, rows: Tensor, length: int) -> None:
        """As ``reorder_cache``, of at most R rows; only their last ``length`` tokens are copied.

        All before must be as in the rows that were in their places.
        """
        end, size = self.get_seq_length(), len(rows)
        start = end - length
        if length:
            chosen = self.buffer[:, :, :, start:end].index_select(1, rows.to(self.buffer.device))
            self.buffer[:, :size, :, start:end] = chosen
        self.buffer = self.buffer[:, :size]
        self._show(end)

    def batch_select_indices(self, indices: Tensor) -> None:
        """As ``reorder_cache``."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row ``repeats`` times, copies next to each other."""
        self.reorder_cache(torch.arange(self.buffer.shape[1]).repeat_interleave(repeats))

    def fill(self, states: Tensor, length: int) -> None:
        """Start with the buffer ``states`` (2, R, G, L + spare, D), of which ``length`` = L tokens are filled."""
        self.lazy_initialization(states[0], states[1])
        self.buffer = states
        self._show(length)

    def _grow(self, example: Tensor, length: int) -> None:
        rows, heads, _, size = example.shape
        buffer = example.new_empty(2, rows, heads, length, size)
        if not self.is_initialized:
            self.lazy_initialization(example, example)
        else:
            buffer[:, :, :, : self.keys.shape[-2]] = self.buffer[:, :, :, : self.keys.shape[-2]]
        self.buffer = buffer

    def _show(self, end: int) -> None:
        self.keys, self.values = self.buffer[0, :, :, :end], self.buffer[1, :, :, :end]


def uncacheable(config: Any) -> str | None:
    """Why states of a model with this configuration cannot be cached and joined; None: no reason is known."""
    # Some rotary positions have frequencies that change with the length of what is read in one pass.
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [each for each in (parameters, *parameters.values()) if isinstance(each, dict)]
    if dynamic := next((each["rope_type"] for each in kinds if each.get("rope_type") in _DYNAMIC_ROPE), None):
        return f"its rotary positions ({dynamic}) depend on how much is read at once"
    layers = DynamicCache(config=config).layers
    if not layers:
        return "its layers are not known before it is run"
    other = next((type(each).__name__ for each in layers if type(each) not in _KEYS_AND_VALUES), None)
    return None if other is None else f"a layer has other states than keys and values ({other})"


def empty_states(config: Any) -> Cache:
    """A cache of rows that have read nothing."""
    return Cache(layers=[GrowingLayer() for _ in DynamicCache(config=config).layers])


def states_of(config: Any, prefixes: Sequence[Tensor], more: int) -> tuple[Cache, Tensor]:
    """A cache of R rows that start with these prefixes, each (layers, 2, G, P, D), aligned at their ends.

    Also returns the mask (R, longest P), False where a row has no token. The buffers have space for ``more``
    tokens, which will be read next, and some to be written.
    """
    lengths = [prefix.shape[-2] for prefix in prefixes]
    longest, first = max(lengths), prefixes[0]
    layers, _, heads, _, size = first.shape
    buffer = first.new_empty(layers, 2, len(prefixes), heads, longest + more + SPARE, size)
    for row, (prefix, length) in enumerate(zip(prefixes, lengths, strict=True)):
        buffer[:, :, row, :, : longest - length] = 0  # masked, but uninitialised memory times 0 may be NaN
        buffer[:, :, row, :, longest - length : longest] = prefix
    cache = empty_states(config)
    for layer, states in zip(cache.layers, buffer, strict=True):
        layer.fill(states, longest)
    starts = torch.tensor([longest - length for length in lengths], device=first.device)
    return cache, torch.arange(longest, device=first.device) >= starts.unsqueeze(1)


def reorder_ends(cache: Any, rows: Tensor, length: int) -> bool:
    """Let a cache have rows (R'), R' ≤ R, by a copy of their last ``length`` tokens; see ``GrowingLayer``.

    False where its layers can do this only by copying all tokens; then nothing has been done.
    """
    layers = getattr(cache, "layers", ())
    if not layers or not all(type(each) is GrowingLayer and each.is_initialized for each in layers):
        return False
    for layer in layers:
        layer.reorder_ends(rows, length)
    return True


def has_all_tokens(cache: Any) -> bool:
    """Whether it is a cache of transformers of which each layer has the keys and values of every token read."""
    layers, known = getattr(cache, "layers", ()), (DynamicLayer, GrowingLayer)
    return bool(layers) and all(type(each) in known and each.is_initialized for each in layers)


def joined_states(parts: Sequence[tuple[Cache, Tensor]], length: int) -> Cache:
    """A cache of chosen rows (R',) of several caches, of the last ``length`` tokens of each, or of all there are.

    Rows are aligned at their ends, with zeros before those that are shorter.
    """
    layers = []
    for several in zip(*(cache.layers for cache, _ in parts), strict=True):
        layer = GrowingLayer()
        chosen = [(each, rows) for each, (_, rows) in zip(several, parts, strict=True)]
        layer.fill(_joined_layer(chosen, length), length)
        layers.append(layer)
    return Cache(layers=layers)


def _joined_layer(parts: Sequence[tuple[DynamicLayer, Tensor]], length: int) -> Tensor:
    """(2, R, G, length + spare, D)."""
    example, total = parts[0][0].keys, sum(len(rows) for _, rows in parts)
    _, heads, _, size = example.shape
    buffer: Tensor = example.new_empty(2, total, heads, length + max(SPARE, length // 8), size)
    first = 0
    for layer, rows in parts:
        chosen, own = rows.to(example.device), min(length, layer.keys.shape[-2])
        places = slice(first, first + len(rows))
        buffer[:, places, :, : length - own] = 0  # masked, but uninitialised memory times 0 may be NaN
        for both, states in zip(buffer, (layer.keys, layer.values), strict=True):
            last = states[:, :, states.shape[-2] - own :].to(example.device)
            both[places, :, length - own : length] = last[chosen]
        first += len(rows)
    return buffer


def rows_of(cache: Cache, lengths: Sequence[int]) -> list[Tensor]:
    """Copies of the states (layers, 2, G, P, D) of each row of a cache, P its last tokens; on one device."""
    device = cache.layers[0].keys.device  # the layers of a model that is spread over devices lie on several
    both = torch.stack([torch.stack((layer.keys, layer.values)).to(device) for layer in cache.layers])
    end = both.shape[-2]
    return [both[:, :, row, :, end - length :].clone() for row, length in enumerate(lengths)]
