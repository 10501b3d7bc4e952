"""Responsibilities cached between visits: incremental EM (Neal and Hinton 1998).

An E-step reads all K branches of a question; the M-step needs only the branches with a responsibility. Which
they are changes little from one epoch to the next, so the E-step may be left out at some visits: the free energy
still only falls. What is cached are the gradients of the EM loss in its two tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

FIELD = "held"
"""Its key in a checkpoint."""


@dataclass(frozen=True)
class EStep:
    """The last E-step of one question."""

    answers: tuple[tuple[int, ...], ...]
    """The gold answers that it was about, A of them, in tokens."""
    components: tuple[str, ...]
    """Names of its K components; others than these need a new E-step."""
    prior: Tensor
    """(K,) gradient of the loss in log π."""
    likelihood: Tensor
    """(A, K, T) gradient of the loss in log e."""
    log_posterior: Tensor
    """(K,)."""


@dataclass
class EStepCache:
    """The last E-step of each example, by its number."""

    entries: dict[int, EStep] = field(default_factory=dict)

    def recall(self, number: int, components: Sequence[str]) -> EStep | None:
        """The last E-step of an example, in the order of these components; None if it was about others."""
        found = self.entries.get(number)
        if found is None or sorted(found.components) != sorted(components):
            return None
        order = [found.components.index(name) for name in components]
        return replace(
            found,
            components=tuple(components),
            prior=found.prior[order],
            likelihood=found.likelihood[:, order],
            log_posterior=found.log_posterior[order],
        )

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint: all gradients in one tensor, since there are thousands of small ones."""
        parts = [
            part.flatten()
            for each in self.entries.values()
            for part in (each.prior, each.likelihood, each.log_posterior)
        ]
        return {FIELD: torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)}

    def state(self) -> list[Any]:
        """For a checkpoint: whose gradients they are, and their shapes."""
        return [
            [n, each.answers, each.components, list(each.likelihood.shape)] for n, each in self.entries.items()
        ]

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], state: Sequence[Any]) -> EStepCache:
        """What ``tensors`` and ``state`` described."""
        flat, start, cache = tensors[FIELD], 0, cls()
        for number, answers, components, (a, k, t) in state:
            pieces = []
            for shape in ((k,), (a, k, t), (k,)):
                size = torch.Size(shape).numel()
                pieces.append(flat[start : start + size].reshape(shape).clone())
                start += size
            tokens = tuple(tuple(answer) for answer in answers)
            cache.entries[number] = EStep(tokens, tuple(components), pieces[0], pieces[1], pieces[2])
        return cache
