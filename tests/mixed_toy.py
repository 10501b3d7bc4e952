"""Two tables as one generator, and the distribution that it means, in probability space."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from enumeration import Toy
from mixrag.generator import MixedGenerator
from mixrag.inference.mixture import Mixture, condition
from tables import table_generator, toy_passages

PRIOR = [0.5, 0.3, 0.2]
WEIGHT = 0.3


@dataclass(frozen=True)
class Sparse(Toy):
    """A toy that gives many tokens probability zero, as an extractive generator does; the end is possible."""

    def next_token(self, component: int, prefix: tuple[int, ...]) -> list[float]:
        end = self.vocabulary - 1
        if component < 0:
            return [float(v == end) for v in range(self.vocabulary)]  # nothing to read: the empty answer
        every = super().next_token(component, prefix)
        possible = [p if v == end or hash((component, prefix, v)) % 2 else 0.0 for v, p in enumerate(every)]
        return [p / math.fsum(possible) for p in possible]


@dataclass(frozen=True)
class MixedToy(Toy):
    """w of one toy and 1 - w of another: products along a whole answer, divided to get the next token."""

    weight: float = WEIGHT
    model: Toy = field(default=Toy(PRIOR, 5, 3, 3))
    spans: Toy = field(default=Sparse(PRIOR, 6, 3, 3))

    def whole(self, component: int, answer: tuple[int, ...]) -> float:
        """p(y | x, z)."""
        return self.weight * product(self.model, component, answer) + (1 - self.weight) * product(
            self.spans, component, answer
        )

    def next_token(self, component: int, prefix: tuple[int, ...]) -> list[float]:
        before = self.whole(component, prefix)
        return [self.whole(component, (*prefix, v)) / before for v in range(self.vocabulary)]


def product(toy: Toy, component: int, answer: tuple[int, ...]) -> float:
    return math.prod(toy.token_probability(component, answer, t) for t in range(len(answer)))


MIXED = MixedToy(PRIOR, 0, 3, 3)
MODEL, SPANS = MIXED.model, MIXED.spans
STOP = MIXED.vocabulary - 1


def mixed_generator(weight: float = WEIGHT) -> MixedGenerator:
    return MixedGenerator(table_generator(MODEL), table_generator(SPANS), weight)


def mixed_mixture(switch: float = 0.0, **options: object) -> Mixture:
    prior: Tensor = torch.tensor(PRIOR, dtype=torch.float64).log()
    return condition(mixed_generator(), "question", toy_passages(MIXED), prior, switch=switch, **options)  # type: ignore[arg-type]
