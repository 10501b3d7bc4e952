"""BranchMixer: a generator whose engine mixes the branches of a question itself, while it writes.

All other generators return distributions that are mixed here. An engine that writes many questions at once returns
answers, and the log-probabilities of their tokens under each prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard

from torch import Tensor

from mixrag.generator.protocol import Prompt


@dataclass(frozen=True, slots=True)
class Draw:
    """How tokens are drawn, where the most probable ones are not taken."""

    seed: int
    sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    """As ``Settings.sampling``."""


@dataclass(frozen=True, slots=True)
class BranchGroup:
    """The mixture that one answer is written under: K prompts and their weights."""

    prompts: tuple[Prompt, ...]
    log_prior: Tensor
    """(K,) float64; its total may be below one."""
    switch: float
    """ρ."""
    answered: bool = False
    """Whether the first token's distributions are given that an answer is not empty; the prior is, then."""
    draw: Draw | None = None
    """None: the most probable token of the mixture."""


@dataclass(frozen=True, slots=True)
class MixedAnswer:
    """An answer that an engine wrote."""

    tokens: tuple[int, ...]
    """(T,) with the stop token at its end, unless it was cut off."""
    log_likelihood: Tensor
    """(K, T) float64 log p(y_t | prompt_j, y_<t), as the model has them."""
    log_drawn: float | None = None
    """log-probability with which it was drawn; None where it was not, or where that is not known."""


class BranchMixer(Protocol):
    """A generator whose engine mixes branches."""

    def mix(self, groups: Sequence[BranchGroup], max_tokens: int) -> list[MixedAnswer | None]:
        """The answer of each group; None where its branches were not computed side by side.

        Nothing is known of an answer that is None: it has to be found in another way.
        """
        ...

    def knows_drawn(self, sampling: Mapping[str, float]) -> bool:
        """Whether it says with which probability it draws under these sampling settings."""
        ...


def mixes_branches(generator: object) -> TypeGuard[BranchMixer]:
    """Whether a generator is a ``BranchMixer``."""
    return hasattr(generator, "mix") and hasattr(generator, "knows_drawn")
