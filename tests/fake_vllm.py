"""An engine that schedules as vLLM's does, for tests of what is inside it; any function is its model.

Both model runners: V1's persistent batch, whose rows are removed, refilled, moved and swapped, and the slots and
reordered rows of Model Runner V2. Prompts that do not fit into a step are read in parts, and what is sampled in
between is thrown away. Blocks that were read before are found again. Disturbances are drawn: requests that are
stopped and read again later, requests that a step leaves out, rows in another order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

Model = Callable[[tuple[int, ...]], Tensor]
"""(V,) logits of the token after these."""
DEFAULTS = {"temperature": 1.0, "stop_token_ids": [], "logprobs": None, "prompt_logprobs": None}
DEFAULTS |= {"logprob_token_ids": None, "extra_args": None, "ignore_eos": False, "detokenize": True}


def params(max_tokens: int, **given: Any) -> SimpleNamespace:
    unknown = given.keys() - DEFAULTS.keys()
    assert not unknown, unknown
    return SimpleNamespace(max_tokens=max_tokens, **{**DEFAULTS, **given})


@dataclass
class Request:
    name: str
    prompt: list[int]
    params: Any
    turn: int
    output: list[int] = field(default_factory=list)
    computed: int = 0
    log_probs: list[dict[int, Any]] = field(default_factory=list)
    slot: int | None = None

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.output


@dataclass
class Disturbed:
    """Probabilities, for each step, of what may go wrong."""

    seed: int = 0
    stopped: float = 0.0
    """A request is stopped, its states are lost, and it waits for a later step."""
    left_out: float = 0.0
    """A request is not in the step."""
    reordered: float = 0.5
    """Rows change places."""
    turns: int = 1
    """Requests are computed in turns, as with pipeline parallelism: those that came together together."""


class PersistentRows:
    """The batch of V1, with the updates that it tells processors."""

    def __init__(self) -> None:
        self.rows: list[Request] = []

    def update(self, wanted: Sequence[Request], swap: tuple[int, int] | None) -> SimpleNamespace | None:
        removed = [place for place, each in enumerate(self.rows) if each not in wanted]
        slots: list[Request | None] = [None if place in removed else each for place, each in enumerate(self.rows)]
        added, moved = [], []
        for each in [each for each in wanted if each not in self.rows]:
            place = removed.pop(0) if removed else len(slots)
            slots[place:] = [each, *slots[place + 1 :]]
            added.append((place, each.params, each.prompt, each.output))
        for hole in sorted(removed):
            while slots and slots[-1] is None:
                slots.pop()
            if hole < len(slots):
                moved.append((len(slots) - 1, hole, SimpleNamespace(name="UNIDIRECTIONAL")))
                slots[hole] = slots.pop()
        while slots and slots[-1] is None:
            slots.pop()
        if swap is not None and max(swap) < len(slots) and swap[0] != swap[1]:
            first, second = swap
            slots[first], slots[second] = slots[second], slots[first]
            moved.append((first, second, SimpleNamespace(name="SWAP")))
        self.rows = [each for each in slots if each is not None]
        assert len(self.rows) == len(wanted)
        if not (removed or added or moved):
            return None
        return SimpleNamespace(batch_size=len(self.rows), removed=removed[::-1], added=added, moved=moved)


class FakeEngine:
    """``vllm.LLMEngine`` over a function."""

    def __init__(
        self,
        model: Model,
        processor: Any,
        *,
        runner: str = "v1",
        step: int = 512,
        rows: int = 64,
        block: int = 4,
        disturbed: Disturbed | None = None,
    ) -> None:
        self.model, self.processor, self.runner = model, processor, runner
        self.budget, self.max_rows, self.block = step, rows, block
        self.disturbed = disturbed or Disturbed()
        self.chance = random.Random(self.disturbed.seed)
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.cached: set[tuple[int, ...]] = set()
        self.batch, self.free, self.steps = PersistentRows(), [*range(rows)], 0
        self.most_rows = self.most_tokens = self.added = 0

    # What mixrag calls.

    def add_request(self, request_id: str, prompt: Any, params: Any) -> str:
        assert prompt["type"] == "token"
        self.waiting.append(Request(request_id, [*prompt["prompt_token_ids"]], params, self.added))
        return request_id

    def abort_request(self, request_ids: list[str]) -> None:
        for each in [*self.running]:
            if each.name in request_ids:
                self._leave(each)
                self.running.remove(each)
        self.waiting = [each for each in self.waiting if each.name not in request_ids]

    def step(self) -> list[Any]:
        self.steps += 1
        self.added += 1
        stopped = self._stop_some()
        scheduled = self._schedule(waiting=not stopped)
        if not scheduled:
            return []
        self.most_rows = max(self.most_rows, len(scheduled))
        self.most_tokens = max(self.most_tokens, sum(count for _, count in scheduled))
        rows = self._place([each for each, _ in scheduled])
        counts = {each.name: count for each, count in scheduled}
        positions = [each.computed + counts[each.name] - 1 for each in rows]
        read = zip(rows, positions, strict=True)
        logits = torch.stack([self.model(tuple(each.tokens[: position + 1])) for each, position in read])
        raw = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
        chosen = self._processed(rows, positions, logits.clone()).argmax(-1).tolist()
        finished = []
        for row, (each, position, token) in enumerate(zip(rows, positions, chosen, strict=True)):
            whole = position + 1 == len(each.tokens)
            self._remember(each, position + 1)
            if whole:
                each.log_probs.append(self._listed(each.params, raw[row], token))
                each.output.append(token)
                reason = self._ended(each, token)
                if reason is not None:
                    finished.append(self._output(each, reason))
        return finished

    # How it does it.

    def _stop_some(self) -> bool:
        stopped = [each for each in self.running if self.chance.random() < self.disturbed.stopped]
        for each in stopped:
            self._leave(each)
            self.running.remove(each)
            each.computed = 0
            self.waiting.insert(0, each)
        return bool(stopped)

    def _schedule(self, waiting: bool) -> list[tuple[Request, int]]:
        room, scheduled = self.budget, []
        for each in self.running:
            out = self.chance.random() < self.disturbed.left_out
            turn = each.turn % self.disturbed.turns != self.steps % self.disturbed.turns
            count = min(len(each.tokens) - each.computed, room)
            if count > 0 and not out and not turn:
                scheduled.append((each, count))
                room -= count
        while waiting and self.waiting and room > 0 and len(self.running) < self.max_rows:
            each = self.waiting[0]
            if each.turn % self.disturbed.turns != self.steps % self.disturbed.turns:
                break
            each.computed = self._found(each)
            count = min(len(each.tokens) - each.computed, room)
            self.running.append(self.waiting.pop(0))
            scheduled.append((each, count))
            room -= count
        return scheduled

    def _found(self, request: Request) -> int:
        if request.params.prompt_logprobs is not None:
            return 0
        tokens, longest = tuple(request.tokens), (len(request.tokens) - 1) // self.block * self.block
        return next((n for n in range(longest, 0, -self.block) if tokens[:n] in self.cached), 0)

    def _remember(self, request: Request, computed: int) -> None:
        request.computed = computed
        tokens = tuple(request.tokens)
        self.cached.update(tokens[:n] for n in range(self.block, computed + 1, self.block))

    def _place(self, requests: list[Request]) -> list[Request]:
        reordered = self.chance.random() < self.disturbed.reordered
        if self.runner == "v1":
            swap = None
            if reordered and len(requests) > 1:
                swap = tuple(self.chance.sample(range(len(requests)), 2))
            self.processor.update_state(self.batch.update(requests, swap))  # type: ignore[arg-type]
            return self.batch.rows
        for each in requests:
            if each.slot is None:
                each.slot = self.free.pop(self.chance.randrange(len(self.free)))
                self.processor.add_request(each.slot, each.params)
        self.processor.apply_staged_writes()
        return self.chance.sample(requests, len(requests)) if reordered else requests

    def _processed(self, rows: list[Request], positions: list[int], logits: Tensor) -> Tensor:
        if self.runner == "v1":
            return self.processor.apply(logits)
        slots = torch.tensor([each.slot for each in rows])
        read = [each.tokens[position] for each, position in zip(rows, positions, strict=True)]
        context = SimpleNamespace(
            expanded_idx_mapping=slots,
            idx_mapping_np=np.array([int(slot) for slot in slots]),
            input_ids=torch.tensor(read),
            pos=torch.tensor(positions),
        )
        return self.processor.apply(logits, context)

    def _listed(self, params: Any, log_probs: Tensor, token: int) -> dict[int, Any]:
        wanted = [token, *(params.logprob_token_ids or [])]
        count = len(log_probs) if params.logprobs == -1 else params.logprobs or 0
        wanted += log_probs.topk(count).indices.tolist()
        return {each: SimpleNamespace(logprob=float(log_probs[each])) for each in wanted}

    def _ended(self, request: Request, token: int) -> str | None:
        if token in request.params.stop_token_ids:
            return "stop"
        return "length" if len(request.output) >= request.params.max_tokens else None

    def _output(self, request: Request, reason: str) -> Any:
        self._leave(request)
        self.running.remove(request)
        prompt = None
        if request.params.prompt_logprobs is not None:
            read = request.prompt
            rows = [self.model(tuple(read[:t])).log_softmax(-1) for t in range(1, len(read))]
            known = [{read[t + 1]: SimpleNamespace(logprob=float(row[read[t + 1]]))} for t, row in enumerate(rows)]
            prompt = [None, *known]
        completion = SimpleNamespace(
            token_ids=request.output, logprobs=request.log_probs, finish_reason=reason, stop_reason=None
        )
        return SimpleNamespace(
            request_id=request.name, finished=True, outputs=[completion], prompt_logprobs=prompt
        )

    def _leave(self, request: Request) -> None:
        if request.slot is not None:
            self.free.append(request.slot)
            request.slot = None
