"""Progress: one way in which everything that takes long tells how far it has come.

Whoever wants to know passes a callable that takes a ``ProgressEvent``; what a person should read beside that
(a skipped file, an early stop) goes to ``logging`` under the name of the module.

>>> def show(event: ProgressEvent) -> None:
...     print(event.stage, event.done, event.total)
>>> show(ProgressEvent("embedding", 128, 512))
embedding 128 512
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """How far one stage of a longer task has come."""

    stage: str
    """What is being done: "reading files", "embedding", "training", ..."""
    done: int
    """Units done."""
    total: int | None = None
    """Units in all; None while that is not known."""
    detail: str = ""
    """The unit at hand, such as a file name."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Figures of this moment, such as the loss of a training step."""


Progress = Callable[[ProgressEvent], None]


def no_progress(event: ProgressEvent) -> None:
    """The ``Progress`` that does nothing."""
