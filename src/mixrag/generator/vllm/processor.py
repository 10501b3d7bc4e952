"""What vLLM loads from the entry point ``vllm.logits_processors``: the mixer behind both of its interfaces.

vLLM takes one class, and refuses one that is not a subclass of the interface of the runner in use. This one is a
subclass of both, and told by its arguments which one made it. Requests that are of no group are left alone.
"""

from __future__ import annotations

import importlib
from typing import Any
from weakref import WeakSet

from torch import Tensor

from mixrag.generator.vllm.group import member_of
from mixrag.generator.vllm.mixer import Mixer
from mixrag.generator.vllm.runners import BatchUpdate, LogitsContext, PersistentBatch, RequestSlots

V1 = "vllm.v1.sample.logits_processor"
V2 = "vllm.v1.worker.gpu.sample.logits_processor"
MADE: WeakSet[MixtureProcessor] = WeakSet()
"""The processors of this process; those of an engine's other processes are not here."""


class MixtureProcessor:
    """Mixes the rows of each group; see ``group.py``.

    Made as ``(vllm_config, device, is_pin_memory)`` by V1 and as ``(vllm_config, req_states)`` by Model Runner V2.
    """

    def __init__(self, vllm_config: Any, *_: Any) -> None:
        self.mixer, self._batch, self._slots = Mixer(), PersistentBatch(), RequestSlots()
        MADE.add(self)

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a request whose arguments are malformed.

        Raises:
            ValueError: they are.
        """
        member_of(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        """V1: it changes the most probable token."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """V1: the batch has changed."""
        self._batch.update(batch_update)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """V2: a request has taken a slot."""
        return self._slots.add(req_idx, sampling_params)

    def apply_staged_writes(self) -> None:
        """V2: there are none."""

    def apply(self, logits: Tensor, ctx: LogitsContext | None = None) -> Tensor:
        """The logits (R, V) of a step, mixed in place; V2 says where the rows are."""
        return self.mixer.apply(logits, self._batch.rows() if ctx is None else self._slots.rows(ctx))


def interfaces() -> tuple[type, ...]:
    """The base classes that this vLLM has, V1's first; a build for processors may have that one alone."""
    found = []
    for module in (V1, V2):
        try:
            found.append(importlib.import_module(module).LogitsProcessor)
        except (ImportError, AttributeError, RuntimeError):
            continue
    return tuple(found)


def processor_class() -> type[MixtureProcessor]:
    """``MixtureProcessor`` as a subclass of the interfaces that this vLLM has."""
    return type("MixtureLogitsProcessor", (MixtureProcessor, *interfaces()), {})


MixtureLogitsProcessor = processor_class()
"""The class of the entry point."""
