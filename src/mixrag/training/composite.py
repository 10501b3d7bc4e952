"""The composite objective: the generator learns what each passage states, and to be silent where it does not.

A step reads packed rows (``packing.py``) of reading sets (``reading_sets.py``). The retriever takes no part: what
of it is trained follows afterwards, by the marginal likelihood with the generator as it is then.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import PairsError
from mixrag.training.loop import Loop
from mixrag.training.packing import Row, branches_of, pack, size_of
from mixrag.training.reading_sets import ReadableSet, trees
from mixrag.training.span_rows import SpanSet, span_rows

Draw = Callable[[str], list[Row]]
"""From a name that seeds what is drawn to the rows of one visit of all sets."""


class Reader(Protocol):
    """Reads rows: see ``RowReader``."""

    def log_likelihoods(self, rows: Sequence[Row]) -> Tensor:
        """See ``RowReader.log_likelihoods``."""
        ...

    def backward(self, rows: Sequence[Row], total: float) -> Tensor:
        """See ``RowReader.backward``."""
        ...


def drawing(sets: Sequence[ReadableSet], stop: int, settings: TrainingSettings, length: int) -> Draw:
    """What draws the rows of an epoch: a function of the sets, the settings and the name alone."""

    def draw(name: str) -> list[Row]:
        source = random.Random(f"{settings.seed}/{name}")
        return pack(trees(sets, stop, settings.empty_weight, source), length, source)

    return draw


def span_drawing(sets: Sequence[SpanSet], stop: int, settings: TrainingSettings) -> Draw:
    """As ``drawing``, for an extractive reader."""
    return lambda name: span_rows(sets, stop, settings.empty_weight, random.Random(f"{settings.seed}/{name}"))


def steps_of(draw: Draw, settings: TrainingSettings) -> tuple[int, list[list[Row]]]:
    """Steps of an epoch, and the rows of all steps; each step has ``batch`` questions or a few more.

    Raises:
        PairsError: there are fewer questions than one batch.
    """
    first = _steps(draw("0"), settings.batch)
    questions = sum(len(branches_of(step)) for step in first)
    if questions < settings.batch:
        remedy = f"lower --batch to {questions} or less"
        raise PairsError(f"at least {settings.batch} questions, one batch", f"{questions} usable ones", remedy)
    epochs = settings.steps / len(first) if settings.steps else settings.epochs
    steps = list(first)
    for epoch in range(1, math.ceil(epochs)):
        steps += _steps(draw(f"{epoch}"), settings.batch)
    if settings.steps:
        while len(steps) < settings.steps:  # an epoch may have fewer steps than the first
            steps += _steps(draw(f"more {len(steps)}"), settings.batch)
        return len(first), steps[: settings.steps]
    return len(first), steps[: max(1, round(len(steps) * epochs / math.ceil(epochs)))]


def _steps(rows: Sequence[Row], questions: int) -> list[list[Row]]:
    steps: list[list[Row]] = []
    count = questions
    for row in rows:
        if count >= questions:
            steps.append([])
            count = 0
        steps[-1].append(row)
        count += len(branches_of([row]))
    return steps


@dataclass
class CompositeLoop(Loop):
    """A run whose steps (``train``) and dev pairs (``dev``) are packed rows."""

    reader: Reader | None = None
    per_epoch: int = 1
    stops: frozenset[int] = field(default=frozenset())
    """Tokens that as an answer of their own are the empty one."""

    def _planned(self) -> tuple[int, int]:
        return self.per_epoch, len(self.train)

    def _learnt(self, number: int) -> dict[str, float]:
        rows: Sequence[Row] = self.train[number]
        questions = len(branches_of(rows))
        mine = rows[self.accelerator.process_index :: self.accelerator.num_processes]
        assert self.reader is not None
        measured = self._measured(mine, self.reader.backward(mine, questions))
        tokens = self._total(torch.tensor([float(size_of(mine))], dtype=torch.float64))
        return {"loss": measured.pop("nll"), **measured, "rows": float(len(rows)), "tokens": float(tokens)}

    def _dev_values(self) -> dict[str, float]:
        mine = self.dev[self.accelerator.process_index :: self.accelerator.num_processes]
        assert self.reader is not None
        return self._measured(mine, self.reader.log_likelihoods(mine))

    def _measured(self, rows: Sequence[Row], log_likelihoods: Tensor) -> dict[str, float]:
        """Means over the branches of all processes: the objective, -log p of answers, and of the empty answer."""
        branches = branches_of(rows)
        weights = torch.tensor([branch.weight for branch in branches], dtype=torch.float64)
        silent = torch.tensor([branch.answer[0] in self.stops for branch in branches], dtype=torch.bool)
        parts = [
            -(weights * log_likelihoods).sum(),
            torch.tensor(float(len(branches))),
            -log_likelihoods[~silent].sum(),
            (~silent).sum(),
            -log_likelihoods[silent].sum(),
            silent.sum(),
        ]
        sums = self._total(torch.stack([part.double() for part in parts])).tolist()
        means = {"nll": sums[0] / max(1.0, sums[1])}
        for name, (total, count) in {"nll_answer": sums[2:4], "nll_empty": sums[4:6]}.items():
            if count:
                means[name] = total / count
        return means
