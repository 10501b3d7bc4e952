"""States of passages kept between questions: recency decides what stays within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

from torch import Tensor

Key = tuple[Hashable, tuple[int, ...]]
"""What names the weights, and the tokens of header and passages."""


class PassageCache:
    """States of prefixes (header and passages) of one model, the least recently used given up first.

    Entries are tensors (layers, 2, G, P, D): keys and values of P tokens, G heads, D values a head.
    """

    def __init__(self, budget: int) -> None:
        """``budget``: bytes that the entries may take together."""
        self.budget, self.size, self.hits, self.misses = budget, 0, 0, 0
        self._entries: OrderedDict[Key, Tensor] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """Entries."""
        return len(self._entries)

    def get(self, key: Key) -> Tensor | None:
        """The states under this key, if they are here; counted as a hit or a miss."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
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
