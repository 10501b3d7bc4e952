"""The table of log-likelihoods of a step: scored in one batch, and cached where the generator is frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixrag.generator import ExtractiveGenerator, Prompt
from mixrag.inference.components import Component
from mixrag.inference.mixture import Mixture
from mixrag.training.examples import Example

LogLikelihoods = Callable[[Sequence[Prompt], Sequence[Sequence[int]]], Tensor]
"""Prompts and answers of R rows to (R, T), without gradient."""


@dataclass
class Likelihoods:
    """log p(y_t | x, z_j, y_<t) of (component, answer), cached where the generator is frozen."""

    score: LogLikelihoods
    frozen: bool
    measure: Callable[[Sequence[Prompt], Sequence[Sequence[int]]], int]
    """How many tokens the model reads to score such rows."""
    cached: dict[str, Tensor] = field(default_factory=dict)
    """By digest of prompt and answer."""
    tokens: int = 0
    """Tokens that the model has read so far."""

    def tables(self, asked: Sequence[tuple[Example, Mixture]]) -> list[tuple[Tensor, Tensor]]:
        """Tables (A, K, T) and masks (A, T) of the questions; what is not known yet is scored as one batch."""
        wanted = {
            _digest(component, answer): (component.prompt, answer)
            for example, mixture in asked
            for answer in example.answers
            for component in mixture.components
        }
        missing = [key for key in wanted if key not in self.cached]
        known = self.cached if self.frozen else {}
        if missing:
            prompts, answers = zip(*(wanted[key] for key in missing), strict=True)
            scored = self.score(prompts, answers)
            self.tokens += self.measure(prompts, answers)
            known |= {key: row[: len(wanted[key][1])] for key, row in zip(missing, scored, strict=True)}
        return [self._table(example, mixture, known) for example, mixture in asked]

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint: a continued run must not score again, in other batches and thus other last bits."""
        return {"likelihoods": torch.cat([*self.cached.values(), torch.zeros(0)])}

    def state(self) -> list[list[Any]]:
        """For a checkpoint: whose likelihoods they are."""
        return [[digest, len(row)] for digest, row in self.cached.items()]

    def restore(self, tensors: Mapping[str, Tensor], state: Sequence[Sequence[Any]]) -> None:
        """Undo ``tensors`` and ``state``."""
        rows = tensors["likelihoods"].split([length for _, length in state]) if state else ()
        self.cached = {digest: row.clone() for (digest, _), row in zip(state, rows, strict=True)}

    def _table(self, example: Example, mixture: Mixture, known: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        size = (len(example.answers), len(mixture.components), example.length)
        table, mask = torch.zeros(size, dtype=torch.float64), torch.zeros(size[0], size[2], dtype=torch.bool)
        for a, answer in enumerate(example.answers):
            mask[a, : len(answer)] = True
            for j, component in enumerate(mixture.components):
                table[a, j, : len(answer)] = known[_digest(component, answer)].double()
        return table, mask


def tokens_of(prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> int:
    """Tokens of R rows: each prompt, and the answer behind it but for its last token."""
    return sum(len(prompt.tokens) + len(answer) - 1 for prompt, answer in zip(prompts, answers, strict=True))


def span_tokens_of(
    generator: ExtractiveGenerator, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
) -> int:
    """As ``tokens_of``, of an extractive reader: it reads each prompt once, whatever is asked of it."""
    return sum(generator.prompt_length(prompt) for prompt in dict.fromkeys(prompts))


def _digest(component: Component, answer: Sequence[int]) -> str:
    content = f"{component.prompt.content} {tuple(answer)}"
    return hashlib.sha256(content.encode()).hexdigest()[:32]
