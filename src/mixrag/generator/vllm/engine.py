"""Requests to an engine of vLLM in this process: what is computed in one step, and in which order.

The rows of a group must be in the same steps. An engine takes what waits in its order, as much as fits into a
step, and reads what does not fit in parts. So nothing is handed to it that would not fit: the tokens of new
prompts and one for each request under way are together at most what a step has room for, and no more memory is
asked for than there is, so that no request is stopped to make room for others.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: token ids to be continued."""

    tokens: tuple[int, ...]
    max_tokens: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of ``SamplingParams``."""
    read_before: int = 0
    """Tokens at its beginning that the engine has read before, and has in its cache."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the engine returns for a request."""

    tokens: tuple[int, ...]
    """With the token that ended it."""
    log_probs: Any
    """For each of them a mapping of tokens to vLLM's ``Logprob``; None where none were asked for."""
    prompt_log_probs: Any
    reason: str
    """"stop", "length", or something else where the request was not finished."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Requests that are to be computed side by side."""

    rows: tuple[Asked, ...]
    before: tuple[Asked, ...] = ()
    """Requests that are to be finished first."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine can do at once."""

    rows: int
    """Requests under way."""
    step: int
    """Tokens read in one step."""
    block: int
    """Tokens in a block of the cache: only whole ones are found again."""
    memory: int | None
    """Tokens whose states there is memory for; None where that is not known."""

    def unread(self, row: Asked) -> int:
        """Tokens of a request that its first step reads; at least the last one."""
        known = min(row.read_before, len(row.tokens) - 1) // self.block * self.block
        return len(row.tokens) - known

    def states(self, row: Asked) -> int:
        """Tokens whose states a request may need memory for."""
        return -(-(len(row.tokens) + row.max_tokens) // self.block) * self.block

    def fits(self, rows: Sequence[Asked]) -> bool:
        """Whether these requests can be computed side by side from their first step on, with nothing else."""
        room = self.memory is None or sum(map(self.states, rows)) <= self.memory
        return room and len(rows) <= self.rows and sum(map(self.unread, rows)) <= self.step


class LLMEngine(Protocol):
    """The part of ``vllm.LLMEngine`` that is used."""

    def add_request(self, request_id: str, prompt: Any, params: Any) -> Any: ...
    def step(self) -> Sequence[Any]: ...
    def abort_request(self, request_ids: list[str]) -> None: ...


@dataclass(slots=True)
class _Task:
    """Requests of one unit that are added together, once others are finished."""

    rows: tuple[Asked, ...]
    found: list[Given | None]
    after: set[str] = field(default_factory=set)
    """Requests that have to be finished first."""


class Engine:
    """An engine, and what it can do at once. One thread uses it at a time, the others wait.

    Args:
        engine: vLLM's engine in this process.
        params: makes ``SamplingParams`` of their fields.
        limits: of the engine.
    """

    def __init__(self, engine: LLMEngine, params: Callable[..., Any], limits: Limits) -> None:
        self._engine, self._params, self.limits = engine, params, limits
        self._turn, self._numbers = RLock(), itertools.count()

    def run(self, units: Sequence[Unit]) -> list[list[Given]]:
        """What comes of the requests of each unit; as many units as fit are under way at any time."""
        with self._turn:
            return _Run(self._engine, self._params, self.limits, self._numbers).all(units)

    def ask(self, rows: Sequence[Asked]) -> list[Given]:
        """What comes of requests that need not be computed side by side."""
        return [given for (given,) in self.run([Unit((row,)) for row in rows])]


class _Run:
    """One call of ``Engine.run``."""

    def __init__(
        self, engine: LLMEngine, params: Callable[..., Any], limits: Limits, numbers: itertools.count[int]
    ) -> None:
        self._engine, self._params, self._limits, self._numbers = engine, params, limits, numbers
        self._running: dict[str, tuple[_Task, int]] = {}
        self._alone = False  # what is under way does not fit into a step

    def all(self, units: Sequence[Unit]) -> list[list[Given]]:
        """See ``Engine.run``."""
        tasks: deque[tuple[_Task, tuple[Asked, ...]]] = deque(
            (_Task(unit.rows, [None] * len(unit.rows)), unit.before) for unit in units
        )
        found = [task.found for task, _ in tasks]
        try:
            while tasks or self._running:
                self._admit(tasks)
                for output in self._engine.step():
                    self._finish(output)
        finally:
            if self._running:
                self._engine.abort_request([*self._running])
        return [[given for given in each if given is not None] for each in found]

    def _admit(self, tasks: deque[tuple[_Task, tuple[Asked, ...]]]) -> None:
        """Add what the next step has room for, in order."""
        new: list[Asked] = []
        while tasks and not self._alone:
            task, before = tasks[0]
            if before:
                first, rest = before[0], before[1:]
                if not self._room([first], new):
                    return
                task.after |= self._add(_Task((first,), [None]))
                new.append(first)
                tasks[0] = (task, rest)
                continue
            if task.after & self._running.keys() or not self._room(task.rows, new):
                return
            self._add(task)
            new += task.rows
            tasks.popleft()

    def _room(self, rows: Sequence[Asked], new: Sequence[Asked]) -> bool:
        """Whether requests can be added; where there are no others they are, and no others until they are done."""
        limits, read = self._limits, [*new, *rows]
        under_way = [task.rows[row] for task, row in self._running.values()]
        step = len(under_way) - len(new) + sum(map(limits.unread, read))
        memory = sum(map(limits.states, [*under_way, *rows]))
        fits = len(under_way) + len(rows) <= limits.rows and step <= limits.step
        fits = fits and (limits.memory is None or memory <= limits.memory)
        self._alone = not fits and not under_way
        return fits or self._alone

    def _add(self, task: _Task) -> set[str]:
        names = set()
        for place, row in enumerate(task.rows):
            name = f"mixrag-{next(self._numbers)}"
            params = self._params(max_tokens=row.max_tokens, **row.options)
            prompt = {"type": "token", "prompt_token_ids": [*row.tokens]}
            self._engine.add_request(name, prompt, params)
            self._running[name] = task, place
            names.add(name)
        return names

    def _finish(self, output: Any) -> None:
        if not output.finished or output.request_id not in self._running:
            return
        task, place = self._running.pop(output.request_id)
        (completion,) = output.outputs
        tokens, reason = tuple(completion.token_ids), str(completion.finish_reason)
        ended = getattr(completion, "stop_reason", None)
        if reason == "stop" and isinstance(ended, int) and tokens[-1:] != (ended,):
            tokens = (*tokens, ended)  # as versions do that leave it out
        task.found[place] = Given(tokens, completion.logprobs, output.prompt_logprobs, reason)
        self._alone = self._alone and bool(self._running)
