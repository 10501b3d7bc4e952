"""The reference: probability space, double loops over hidden paths and answers, no clever algebra."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

Switching = float | Sequence[float]
"""ρ, or ρ_t after each token."""


@dataclass(frozen=True)
class Toy:
    """A mixture small enough to enumerate: prior (K,), and next-token laws that depend on the whole prefix."""

    prior: list[float]
    seed: int
    vocabulary: int
    length: int

    @property
    def log_prior(self) -> Tensor:
        return torch.tensor(self.prior, dtype=torch.float64).log()

    def next_token(self, component: int, prefix: tuple[int, ...]) -> list[float]:
        generator = torch.Generator().manual_seed(hash((self.seed, component, prefix)) % 2**31)
        logits = 2.0 * torch.randn(self.vocabulary, generator=generator, dtype=torch.float64)
        return logits.softmax(0).tolist()

    def token_probability(self, component: int, answer: tuple[int, ...], t: int) -> float:
        return self.next_token(component, answer[:t])[answer[t]]

    def log_likelihood(self, answer: tuple[int, ...]) -> Tensor:  # (K, T)
        table = [
            [self.token_probability(j, answer, t) for t in range(len(answer))] for j in range(len(self.prior))
        ]
        return torch.tensor(table, dtype=torch.float64).reshape(len(self.prior), len(answer)).log()

    def answers(self, length: int | None = None) -> list[tuple[int, ...]]:
        return list(itertools.product(range(self.vocabulary), repeat=self.length if length is None else length))

    def paths(self, length: int) -> list[tuple[int, ...]]:
        return list(itertools.product(range(len(self.prior)), repeat=length))

    def path_probability(self, path: tuple[int, ...], switch: Switching) -> float:
        """p(z_1..z_T | x): drawn once, then kept or re-drawn; after token t with probability ρ_t."""
        probability = self.prior[path[0]] if path else 1.0
        for t, (before, now) in enumerate(itertools.pairwise(path)):
            stay, chance = 1.0 if before == now else 0.0, switch if isinstance(switch, float) else switch[t]
            probability *= (1 - chance) * stay + chance * self.prior[now]
        return probability

    def joint(self, answer: tuple[int, ...], switch: Switching) -> dict[tuple[int, ...], float]:
        """p(y, z_1..z_T | x) for every hidden path."""
        table = {}
        for path in self.paths(len(answer)):
            probability = self.path_probability(path, switch)
            for t, component in enumerate(path):
                probability *= self.token_probability(component, answer, t)
            table[path] = probability
        return table

    def probability(self, answer: tuple[int, ...], switch: Switching) -> float:
        return math.fsum(self.joint(answer, switch).values())


@st.composite
def toys(
    draw: st.DrawFn,
    *,
    components: int = 4,
    vocabulary: int = 3,
    length: int = 4,
    least: int = 1,
    zeros: bool = True,
) -> Toy:
    """Random mixtures, some with components of prior zero; ``least`` bounds K and T from below."""
    size = draw(st.integers(least, components))
    low = 0.0 if zeros else 0.01
    weights = draw(st.lists(st.floats(low, 1.0), min_size=size, max_size=size).filter(lambda w: sum(w) > 0.05))
    total = sum(weights)
    return Toy(
        prior=[w / total for w in weights],
        seed=draw(st.integers(0, 10_000)),
        vocabulary=draw(st.integers(2, vocabulary)),
        length=draw(st.integers(least, length)),
    )


switches = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0.0, 1.0)
