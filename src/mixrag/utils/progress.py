"""Progress: one way in which everything that takes long reports how far it has come.

A caller passes a callable that takes a ``ProgressEvent``. Notices for people (an
early stop, a rebuilt index) goes to ``logging``: the loggers are ``mixrag.training``, ``mixrag.evaluation``, ...

>>> def show(event: ProgressEvent) -> None:
...     print(event.stage, event.done, event.total)
>>> show(ProgressEvent("embedding", 128, 512))
embedding 128 512
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

_logger = logging.getLogger(__name__)


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
    """The current unit, such as a file name, or what it is done for, such as a system that is scored."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Figures of this moment, such as the loss of a training step."""


Progress = Callable[[ProgressEvent], None]


def no_progress(event: ProgressEvent) -> None:
    """The ``Progress`` that does nothing."""


def guarded(progress: Progress | None) -> Progress:
    """The callable, or none, as something that cannot break a run.

    The first exception in it is logged, and it is not called again. KeyboardInterrupt and SystemExit pass.
    """
    broken = False

    def report(event: ProgressEvent) -> None:
        nonlocal broken
        if progress is None or broken:
            return
        try:
            progress(event)
        except Exception:
            broken = True
            _logger.warning("the progress callable failed and is not called again", exc_info=True)

    return report


def labelled(progress: Progress, detail: str) -> Progress:
    """The callable for a part of a task: every event has this ``detail``."""
    return lambda event: progress(replace(event, detail=detail))
