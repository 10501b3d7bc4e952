"""States of passages kept between questions: in memory, where recency decides what stays, and in files."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from torch import Tensor

from mixrag.files import write_whole

Key = tuple[Hashable, tuple[int, ...]]
"""What names the weights, and the tokens of header and passages."""


@dataclass(frozen=True)
class PassageFiles:
    """A folder with a safetensors file for each prefix that one model has read."""

    folder: Path
    weights: Hashable
    """What names the weights (in a key) for which the files hold."""

    def path(self, tokens: tuple[int, ...]) -> Path:
        """Where the states of these tokens are, or would be."""
        return self.folder / f"{hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:32]}.safetensors"

    def read(self, key: Key) -> Tensor | None:
        """The states under this key; None where there is no such file, or another one in its place."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        weights, tokens = key
        try:
            if weights != self.weights:
                return None
            states = load(self.path(tokens).read_bytes())["states"]
        except (OSError, KeyError, ValueError, SafetensorError):
            return None
        return states if states.ndim == 5 and states.shape[-2] == len(tokens) else None

    def write(self, tokens: tuple[int, ...], states: Tensor) -> int:
        """Write states (layers, 2, G, P, D); the file appears complete or not at all. Returns its bytes.

        Raises:
            OSError: it cannot be written.
        """
        from safetensors.torch import save

        content = save({"states": states.to("cpu", copy=False).contiguous()})
        write_whole(self.path(tokens), content)
        return len(content)


class PassageCache:
    """States of prefixes (header and passages) of one model, the least recently used given up first.

    Entries are tensors (layers, 2, G, P, D): keys and values of P tokens, G heads, D values a head.
    """

    def __init__(self, budget: int) -> None:
        """``budget``: bytes that the entries may take together."""
        self.budget, self.size, self.hits, self.misses = budget, 0, 0, 0
        self.files: PassageFiles | None = None
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

    def __deepcopy__(self, memo: dict[int, object]) -> PassageCache:
        """An empty one: a copy of a generator reads for itself."""
        return PassageCache(self.budget)
