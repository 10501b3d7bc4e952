"""Caches of the key-value states of prompt prefixes (header and passages): in memory (LRU), and on disk."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from mixrag.utils.atomic import write_atomically

Key = tuple[Hashable, tuple[int, ...]]
"""A fingerprint of the model's weights, and the tokens of header and passages."""
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
"""As safetensors names them."""


@dataclass(frozen=True)
class DiskPrefixCache:
    """A folder with one safetensors file for each prefix that one model has read.

    A file is used only if its metadata names these tokens and its tensor has the model's shape and dtype.
    """

    folder: Path
    weights: Hashable
    """The fingerprint (as in a key) of the weights that computed the files."""
    example: Tensor
    """(layers, 2, G, 1, D): the states of any one token."""

    def path(self, tokens: tuple[int, ...]) -> Path:
        """Where the states of these tokens are, or would be."""
        return self.folder / f"{_digest(tokens)[:32]}.safetensors"

    def contains(self, tokens: tuple[int, ...]) -> bool:
        """True if there is a valid file of these tokens; only its header is read."""
        return self._opened(tokens) is not None

    def read(self, key: Key) -> Tensor | None:
        """The states (layers, 2, G, P, D) of this key; None if there is no valid file of them."""
        weights, tokens = key
        opened = self._opened(tokens) if weights == self.weights else None
        states: Tensor | None = None if opened is None else opened.get_tensor("states")
        return states if states is not None and bool(states.isfinite().all()) else None

    def content(self, tokens: tuple[int, ...], states: Tensor) -> bytes:
        """The bytes of a safetensors file with these states (layers, 2, G, P, D)."""
        from safetensors.torch import save

        return bytes(save({"states": states.cpu().contiguous()}, {"tokens": _digest(tokens)}))

    def write(self, tokens: tuple[int, ...], content: bytes) -> None:
        """Write a file atomically; several processes may write the same one.

        Raises:
            OSError: it cannot be written.
        """
        write_atomically(self.path(tokens), content, shared=True)

    def _opened(self, tokens: tuple[int, ...]) -> Any:
        """The open file of these tokens, if its header is right; else None."""
        from safetensors import SafetensorError, safe_open

        path = self.path(tokens)
        try:
            if not path.is_file():
                return None
            opened: Any = safe_open(path, "pt")
            shape = [*self.example.shape[:-2], len(tokens), self.example.shape[-1]]
            states = opened.get_slice("states")
            fits = states.get_shape() == shape and states.get_dtype() == _DTYPES.get(self.example.dtype)
            return opened if fits and (opened.metadata() or {}).get("tokens") == _digest(tokens) else None
        except (OSError, SafetensorError):
            return None


def _digest(tokens: tuple[int, ...]) -> str:
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()


class PrefixCache:
    """States of prefixes (header and passages) of one model; the least recently used are evicted first.

    Safe to use from several threads. Entries are tensors (layers, 2, G, P, D): keys and values of P tokens, G
    heads, D values a head.
    """

    def __init__(self, budget: int) -> None:
        """``budget``: bytes that the entries may take together."""
        self.budget, self.size, self.hits, self.misses = budget, 0, 0, 0
        self.disk: DiskPrefixCache | None = None
        """Where to look for what is not in memory."""
        self._entries: OrderedDict[Key, Tensor] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """Number of entries in memory."""
        return len(self._entries)

    def get(self, key: Key) -> Tensor | None:
        """The states of this key, from memory or from disk, or None; counted as a hit or a miss."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
        if found is None and self.disk is not None:
            found = self.disk.read(key)
            if found is not None:
                self.put(key, found)
        with self._lock:
            self.hits, self.misses = self.hits + (found is not None), self.misses + (found is None)
        return found

    def put(self, key: Key, states: Tensor) -> None:
        """Add these states and evict others until they fit; what exceeds the whole budget is not added."""
        with self._lock:
            if key in self._entries or states.nbytes > self.budget:
                return
            self._entries[key] = states
            self.size += states.nbytes
            while self.size > self.budget:
                _, evicted = self._entries.popitem(last=False)
                self.size -= evicted.nbytes

    def clear(self) -> None:
        """Remove all entries from memory; the counts of hits and misses stay."""
        with self._lock:
            self._entries.clear()
            self.size = 0

    def __deepcopy__(self, memo: dict[int, object]) -> PrefixCache:
        """An empty cache of the same budget: a copied generator fills its own."""
        return PrefixCache(self.budget)
