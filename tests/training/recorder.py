"""What a training run reports: a progress callable that remembers it, and the notices of its loggers."""

from __future__ import annotations

import logging
import time
import weakref

from mixrag.utils.progress import ProgressEvent

_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        for recorder in _recorders:
            recorder.notices.append(record.getMessage())


_handler = _Handler(logging.INFO)


class Recorder:
    """Remembers what it is told; may be slow at every step, or stop the run at one, as a kill would."""

    def __init__(self, die_at: int | None = None, *, pause: float = 0.0) -> None:
        self.pause, self.die_at = pause, die_at
        self.notices: list[str] = []
        self.losses: list[float] = []
        self.starts: list[tuple[int, int]] = []
        self.events: list[ProgressEvent] = []
        _recorders.add(self)
        logger = logging.getLogger("mixrag")
        logger.setLevel(logging.INFO)
        if _handler not in logger.handlers:
            logger.addHandler(_handler)

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.starts[-1][1]

    def __call__(self, event: ProgressEvent) -> None:
        self.events.append(event)
        if not event.stage.startswith(("training", "learning")):
            return
        if not event.values:
            self.started(event.done, event.total or 0)
        else:
            self.stepped(event.done, event.values["loss"])

    def started(self, step: int, total: int) -> None:
        self.starts.append((step, total))

    def stepped(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        time.sleep(self.pause)
        if step == self.die_at:
            raise KeyboardInterrupt
