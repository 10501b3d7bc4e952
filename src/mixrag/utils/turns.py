"""Models and tokenizers that several threads use: one call at a time, each thread in its turn.

A tokenizer of transformers stores options of a call (such as ``split_special_tokens``) in itself, where they would
hold for the calls of other threads. A model may compute rotary frequencies or packed weights at its first call.
"""

from __future__ import annotations

from threading import RLock
from typing import Any
from weakref import finalize

_LOCKS: dict[int, Any] = {}
_ADDING, _OTHERS = RLock(), RLock()


def turn(used: Any) -> Any:
    """The lock of a model or tokenizer, to be acquired while it is used; the same for all threads and callers.

    Objects that cannot be referred to weakly share one lock.
    """
    found = _LOCKS.get(id(used))
    if found is not None:
        return found
    with _ADDING:
        if id(used) not in _LOCKS:
            try:
                finalize(used, _LOCKS.pop, id(used)).atexit = False
            except TypeError:
                return _OTHERS
            _LOCKS[id(used)] = RLock()
        return _LOCKS[id(used)]
