"""What is known of the states of a converted model, without the libraries that convert."""

from __future__ import annotations

from dataclasses import dataclass


class NotConvertibleError(Exception):
    """A model that cannot be converted; the message says why, in a few words."""


@dataclass(frozen=True)
class States:
    """Sizes of a model's keys and values."""

    layers: int
    heads: int
    """G"""
    size: int
    """D"""


def state_number(name: str) -> int:
    """Which of the 2 · layers states a variable of a converted model is: ``past.3present.3`` is 3."""
    return int(name.split("present.")[0].removeprefix("past."))
