"""Decoding steps in buffers of fixed size, recorded once and replayed for every token: CUDA graphs.

On a GPU a decoding step of a small model waits for hundreds of calls from Python. Recorded, it is one call. What
is recorded reads and writes the same memory each time, so keys and values, mask, positions and the place of the
next token are in buffers, and the step itself moves on to the next place. Rows are filled up to one of a few
numbers, and places to a multiple of 128, so that few steps are recorded.

What records is given (``Recorder``): ``CudaGraphs`` on a GPU, and in the tests a recorder of torch's operations on
a processor, which repeats them on the same memory as a CUDA graph does.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from mixrag.generator.batching import is_identity
from mixrag.generator.causal_branches import CausalBranches, arguments_of
from mixrag.generator.huggingface import next_log_probs
from mixrag.generator.kv_cache import SPARE, GrowingLayer, uncacheable
from mixrag.generator.thoughts import without_tokens
from mixrag.utils.turns import turn

logger = logging.getLogger("mixrag.generator")
Recorder = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""From a step to a function that repeats its operations, on the memory that they used; the output is the same
tensor each time. The step may be run while it is recorded."""
PLACES = 128
"""Places of a step are a multiple of it."""
ROOM = 32
"""Tokens to come for which a step has places when rows begin in it."""
IDLE = 4
"""Recorded steps that wait for their next use; each has buffers of its own."""
_WARM_UP = 3


@dataclass(frozen=True)
class CudaGraphs:
    """The ``Recorder`` of a GPU."""

    device: torch.device

    def __call__(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record a step; other threads may use the GPU meanwhile."""
        with torch.cuda.device(self.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # what libraries set up at their first call must not be recorded
                for _ in range(_WARM_UP):
                    step()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                output = step()

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay


def unrecordable(config: Any) -> str | None:
    """Why steps of a model with this configuration cannot be recorded; None: no reason is known."""
    if (reason := uncacheable(config)) is not None:
        return reason
    other = next((each for each in DynamicCache(config=config).layers if type(each) is not DynamicLayer), None)
    return None if other is None else "a layer attends to a window of tokens only"


class _FixedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values (R, G, C, D) of one layer; those of a new token go to the place that a tensor says."""

    def __init__(self, states: Tensor, place: Tensor) -> None:
        """``states``: (2, R, G, C, D)."""
        super().__init__()
        self.lazy_initialization(states[0], states[1])
        self.keys, self.values = states[0], states[1]
        self.place = place

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one token's (R, G, 1, D) of both; returns keys and values of all places; the mask chooses."""
        self.keys.index_copy_(-2, self.place, key_states)
        self.values.index_copy_(-2, self.place, value_states)
        return self.keys, self.values

    def get_seq_length(self, *_: Any) -> int:
        """Nothing may depend on it: positions and mask are given."""
        return 0


class Step:
    """One token of up to R rows behind up to C - 1 others, recorded where that can be done."""

    def __init__(
        self, model: Any, example: Tensor, rows: int, places: int, recorder: Recorder, *, needed: bool = True
    ) -> None:
        """A step in new buffers.

        Args:
            model: of transformers.
            example: states (layers, 2, G, 1, D) of any one token.
            rows: R.
            places: C.
            recorder: records it.
            needed: where it cannot be recorded that is an error; else the step is run as it is.
        """
        layers, _, heads, _, size = example.shape
        device = example.device
        self.model, self.capacity, self.places = model, rows, places
        self.ids, self.positions = torch.zeros(2, rows, 1, dtype=torch.long, device=device)
        self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.masked = torch.finfo(model.dtype).min  # finite: rows without a text must not become NaN
        self.mask = torch.full((rows, 1, 1, places), self.masked, dtype=model.dtype, device=device)
        self.states = example.new_zeros(layers, 2, rows, heads, places, size)
        self.cache = Cache(layers=[_FixedLayer(each, self.place) for each in self.states])
        self.rows = self.length = 0
        """Rows in use, and places with a token."""
        self.is_recorded = True
        try:
            self._replay = recorder(self._step)
        except RuntimeError as error:
            if needed:
                raise
            logger.warning("a decoding step is not recorded: %s", " ".join(str(error).split())[:200])
            self._replay, self.is_recorded = self._step, False

    def _step(self) -> Tensor:
        self.mask.index_fill_(-1, self.place, 0.0)
        keep = {"logits_to_keep": 1} if "logits_to_keep" in arguments_of(type(self.model).forward) else {}
        output = self.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            **keep,
        )
        self.place += 1
        self.positions += 1
        logits: Tensor = output.logits
        return logits

    def load(self, cache: Any, attended: Tensor, rows: Tensor) -> None:
        """Begin with rows (R',) of a cache of L tokens, with its mask (R, L)."""
        self.rows, self.length = len(rows), attended.shape[1]
        chosen = attended[rows]
        self.states.zero_()  # of former texts nothing may be left: a masked NaN is NaN
        for both, layer in zip(self.states, cache.layers, strict=True):
            for states, known in zip(both, (layer.keys, layer.values), strict=True):
                states[: self.rows, :, : self.length] = known[rows]
        self.mask.fill_(self.masked)
        self.mask[: self.rows, 0, 0, : self.length].masked_fill_(chosen, 0.0)
        self.positions.zero_()
        self.positions[: self.rows, 0] = chosen.sum(-1)
        self.place.fill_(self.length)

    def reorder(self, rows: Tensor) -> None:
        """Replace all rows by the rows ``rows`` (R',), of which there is space for R' <= R."""
        if is_identity(rows, self.rows):
            return
        self.states[:, :, : len(rows), :, : self.length] = self.states[:, :, rows, :, : self.length]
        self.mask[: len(rows)] = self.mask[rows]
        self.positions[: len(rows)] = self.positions[rows]
        self.rows = len(rows)

    def run(self, tokens: Tensor) -> Tensor:
        """(R', 1, V) logits after one more token of each row, in memory that the next run overwrites."""
        with turn(self.model):
            self.ids[: self.rows, 0] = tokens
            logits = self._replay()
        self.length += 1
        return logits[: self.rows]

    def copied(self) -> tuple[Cache, Tensor]:
        """A cache that grows, with copies of the rows in use, and its mask (R', L)."""
        layers = []
        for both in self.states:
            layer = GrowingLayer()
            buffer = both.new_empty(2, self.rows, both.shape[2], self.length + SPARE, both.shape[4])
            buffer[:, :, :, : self.length] = both[:, : self.rows, :, : self.length]
            layer.fill(buffer, self.length)
            layers.append(layer)
        return Cache(layers=layers), self.mask[: self.rows, 0, 0, : self.length] == 0.0


class Lease:
    """A step in use; it goes back with its last owner."""

    def __init__(self, steps: Steps, step: Step) -> None:
        self.steps, self.step = steps, step

    def __del__(self) -> None:
        """Give it back."""
        if not sys.is_finalizing():
            self.steps.release(self.step)


class Steps:
    """The recorded steps of one model, made when they are needed."""

    def __init__(self, model: Any, recorder: Recorder) -> None:
        self.model, self.recorder, self.made = model, recorder, 0
        self._idle: list[Step] = []
        self._returned = deque[Step](maxlen=IDLE)
        self._lock = Lock()

    def begin(self, branches: CausalBranches, rows: Tensor) -> Lease:
        """A step with copies of the rows ``rows`` (R',)."""
        wanted = _rows(len(rows)), _places(branches.attended.shape[1])
        with self._lock:
            self._take_back()
            found = next((each for each in self._idle if (each.capacity, each.places) == wanted), None)
            if found is not None:
                self._idle.remove(found)
        if found is None:
            layers = branches.cache.layers
            example = torch.stack([torch.stack((each.keys, each.values))[:, 0, :, :1] for each in layers])
            with turn(self.model):
                found = Step(self.model, example, *wanted, self.recorder, needed=not self.made)
            self.made += 1
        lease = Lease(self, found)
        found.load(branches.cache, branches.attended, rows)
        return lease

    def release(self, step: Step) -> None:
        """Give back a step that nobody uses; the oldest ones go.

        The garbage collector calls this anywhere, also in a thread that has the lock: it never waits.
        """
        if step.is_recorded:
            self._returned.append(step)
        if self._lock.acquire(blocking=False):
            try:
                self._take_back()
            finally:
                self._lock.release()

    def _take_back(self) -> None:
        while self._returned:
            self._idle.append(self._returned.popleft())
        del self._idle[:-IDLE]

    def recorded(self, branches: CausalBranches) -> RecordedBranches:
        """Branches whose next steps are recorded ones."""
        return RecordedBranches(self, branches.log_probs, branches.never, branches, None)


@dataclass(frozen=True)
class RecordedBranches:
    """As ``CausalBranches``; its rows are in a step from the first one on."""

    steps: Steps
    log_probs: Tensor
    """(R, V), on the output device."""
    never: tuple[int, ...]
    """Tokens that no answer has (``thoughts``)."""
    read: CausalBranches | None
    """Before the first step: the rows as they were read."""
    lease: Lease | None
    """From then on: where they are."""

    @torch.inference_mode()
    def advance(self, rows: Tensor, tokens: Tensor) -> RecordedBranches:
        """See ``Branches.advance``."""
        lease = self._lease_for(rows)
        device = lease.step.ids.device
        logits = without_tokens(lease.step.run(tokens.to(device)), self.never)
        return RecordedBranches(self.steps, next_log_probs(logits, device), self.never, None, lease)

    def _lease_for(self, rows: Tensor) -> Lease:
        """A step whose rows are the rows ``rows`` (R',) of these, with a place for a token."""
        if self.lease is not None:
            step, chosen = self.lease.step, rows.to(self.lease.step.ids.device)
            if _rows(len(rows)) == step.capacity and step.length < step.places:
                step.reorder(chosen)
                return self.lease
        plain = self.plain()
        return self.steps.begin(plain, rows.to(plain.attended.device))

    def plain(self) -> CausalBranches:
        """The same rows; copies, once they are in a step."""
        if self.lease is None:
            assert self.read is not None
            return self.read
        cache, attended = self.lease.step.copied()
        return CausalBranches(self.steps.model, cache, attended, self.log_probs, self.never)

    @torch.inference_mode()
    def select(self, rows: Tensor) -> RecordedBranches:
        """See ``Branches.select``."""
        return self.steps.recorded(self.plain().select(rows))

    @property
    def joins(self) -> bool:
        """See ``JoiningBranches.joins``."""
        return True

    @torch.inference_mode()
    def join(self, rows: Tensor, others: Sequence[tuple[RecordedBranches, Tensor]]) -> RecordedBranches:
        """See ``JoiningBranches.join``."""
        read = [(each.plain(), some) for each, some in others]
        return self.steps.recorded(self.plain().join(rows, read))

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``."""
        return self.plain().score(tokens)


def _rows(count: int) -> int:
    """1, 2, 4, or a multiple of 8."""
    return next((each for each in (1, 2, 4) if count <= each), -(-count // 8) * 8)


def _places(length: int) -> int:
    return -(-(length + ROOM) // PLACES) * PLACES
