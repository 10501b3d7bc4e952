"""Language models and tokenizers that several threads use: one call at a time, each thread in its turn.

A tokenizer of transformers stores options of a call (such as ``split_special_tokens``) in itself, where they would
hold for the calls of other threads. A model may compute rotary frequencies or packed weights at its first call.
"""

from __future__ import annotations

from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

_LOCKS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_GUARD, _OTHERS = Lock(), RLock()


def turn(used: Any) -> Any:
    """The lock of a model or tokenizer, to be held while it is used.

    Objects that cannot be referred to weakly share one lock.
    """
    with _GUARD:
        try:
            found = _LOCKS.get(used)
            if found is None:
                found = _LOCKS[used] = RLock()
        except TypeError:
            return _OTHERS
        return found
