"""Mixtures over tables whose numbers are rounded, differently in every batch: what bfloat16 does to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from enumeration import Toy
from mixrag.generator import Prompt, TableGenerator
from mixrag.generator.table import TableBranches
from mixrag.inference.mixture import Mixture
from tables import toy_mixture


@dataclass(frozen=True)
class NoisyGenerator(TableGenerator):
    """The table's logits with errors that depend on how many rows are read together, and on the row's place."""

    size: float = 0.0
    """The errors of two tokens differ by at most this."""
    rounding: float = 0.0
    """What it says that they are."""
    seed: int = 0

    def start(self, prompts: Sequence[Prompt]) -> NoisyBranches:
        return NoisyBranches(self, tuple(prompts), ((),) * len(prompts))

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        return self.start(prompts).score(answer)

    def read(self, prompt: Prompt, answer: tuple[int, ...], shape: tuple[int, int]) -> Tensor:
        exact = self.next_token(prompt.passages, answer).log()
        source = torch.Generator().manual_seed(hash((self.seed, prompt.passages, answer, shape)) % 2**31)
        errors = torch.rand(len(exact), generator=source, dtype=torch.float64) - 0.5
        errors = torch.where(torch.rand(len(exact), generator=source) < 0.5, errors, errors.sign() / 2)
        return (exact + self.size * errors).log_softmax(-1)


@dataclass(frozen=True)
class NoisyBranches(TableBranches):
    generator: NoisyGenerator

    @cached_property
    def log_probs(self) -> Tensor:
        rows = enumerate(zip(self.prompts, self.answers, strict=True))
        count = len(self.prompts)
        return torch.stack([self.generator.read(prompt, answer, (row, count)) for row, (prompt, answer) in rows])


def noisy_mixture(toy: Toy, switch: float, size: float, rounding: float, **options: object) -> Mixture:
    exact = toy_mixture(toy, switch, **options)
    table = exact.generator
    noisy = NoisyGenerator(table.words, table.next_token, size=size, rounding=rounding, seed=toy.seed)
    return replace(exact, generator=noisy)
