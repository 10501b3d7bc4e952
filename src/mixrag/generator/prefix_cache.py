"""States of passages kept between questions: in memory, where recency decides what stays, and in files."""

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
"""What names the weights, and the tokens of header and passages."""
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
"""As safetensors names them."""


@dataclass(frozen=True)
class DiskPrefixCache:
    """A folder with a safetensors file for each prefix that one model has read.

    A file is data: it counts only where it says that it is of these tokens, and has the model's shape and type.
    """

    folder: Path
    weights: Hashable
    """What names the weights (in a key) for which the files hold."""
    like: Tensor
    """(layers, 2, G, 1, D): the states of any one token."""

    def path(self, tokens: tuple[int, ...]) -> Path:
        """Where the states of these tokens are, or would be."""
        return self.folder / f"{_digest(tokens)[:32]}.safetensors"

    def holds(self, tokens: tuple[int, ...]) -> bool:
        """True where there is a file of these tokens, judged by its head."""
        return self._opened(tokens) is not None

    def read(self, key: Key) -> Tensor | None:
        """The states under this key; None where there is no such file, or another one in its place."""
        weights, tokens = key
        opened = self._opened(tokens) if weights == self.weights else None
        states: Tensor | None = None if opened is None else opened.get_tensor("states")
        return states if states is not None and bool(states.isfinite().all()) else None

    def content(self, tokens: tuple[int, ...], states: Tensor) -> bytes:
        """The file of these states (layers, 2, G, P, D)."""
        from safetensors.torch import save

        return bytes(save({"states": states.cpu().contiguous()}, {"tokens": _digest(tokens)}))

    def write(self, tokens: tuple[int, ...], content: bytes) -> None:
        """Write a file that appears complete or not at all, also beside others that write it.

        Raises:
            OSError: it cannot be written.
        """
        write_atomically(self.path(tokens), content, shared=True)

    def _opened(self, tokens: tuple[int, ...]) -> Any:
        """The file of these tokens, its head read and found right; None where it is none."""
        from safetensors import SafetensorError, safe_open

        path = self.path(tokens)
        try:
            if not path.is_file():
                return None
            opened: Any = safe_open(path, "pt")
            shape = [*self.like.shape[:-2], len(tokens), self.like.shape[-1]]
            part = opened.get_slice("states")
            right = part.get_shape() == shape and part.get_dtype() == _DTYPES.get(self.like.dtype)
            return opened if right and (opened.metadata() or {}).get("tokens") == _digest(tokens) else None
        except (OSError, SafetensorError):
            return None


def _digest(tokens: tuple[int, ...]) -> str:
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()


class PrefixCache:
    """States of prefixes (header and passages) of one model, the least recently used given up first.

    Entries are tensors (layers, 2, G, P, D): keys and values of P tokens, G heads, D values a head.
    """

    def __init__(self, budget: int) -> None:
        """``budget``: bytes that the entries may take together."""
        self.budget, self.size, self.hits, self.misses = budget, 0, 0, 0
        self.files: DiskPrefixCache | None = None
        """Where to look for what is not in memory."""
        self._entries: OrderedDict[Key, Tensor] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """Entries."""
        return len(self._entries)

    def get(self, key: Key) -> Tensor | None:
        """The states under this key, if they are here or in a file; counted as a hit or a miss."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
        if found is None and self.files is not None:
            found = self.files.read(key)
            if found is not None:
                self.put(key, found)
        with self._lock:
            self.hits, self.misses = self.hits + (found is not None), self.misses + (found is None)
        return found

    def put(self, key: Key, states: Tensor) -> None:
        """Keep these states; others go until they fit. What is larger than the whole budget is not kept."""
        with self._lock:
            if key in self._entries or states.nbytes > self.budget:
                return
            self._entries[key] = states
            self.size += states.nbytes
            while self.size > self.budget:
                _, gone = self._entries.popitem(last=False)
                self.size -= gone.nbytes

    def clear(self) -> None:
        """Forget all entries; the counts stay."""
        with self._lock:
            self._entries.clear()
            self.size = 0

    def __deepcopy__(self, memo: dict[int, object]) -> PrefixCache:
        """An empty one: a copy of a generator reads for itself."""
        return PrefixCache(self.budget)
