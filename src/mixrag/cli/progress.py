"""How far an indexing run has come: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from mixrag.corpus import Progress as Listener

SECONDS_BETWEEN_LINES = 5.0


class _Counter:
    """Estimates the number of passages to embed from the files seen so far."""

    def __init__(self) -> None:
        self.files = self.seen = self.done = self.known = 0
        self.started = time.monotonic()

    def found(self, files: int) -> None:
        self.files = files

    def file(self, path: str) -> None:
        self.seen += 1

    def embedded(self, done: int, known: int) -> None:
        self.done, self.known = done, known

    @property
    def expected(self) -> int:
        """Passages known, and as many for each file still to come as the files so far had."""
        return max(self.known, round(self.known * self.files / max(1, self.seen)))

    @property
    def rate(self) -> float:
        return self.done / max(1e-9, time.monotonic() - self.started)


class _Bar(_Counter):
    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._task = progress.add_task("", total=None, rate="")

    def file(self, path: str) -> None:
        super().file(path)
        self._progress.update(self._task, description=f"{self.seen}/{self.files} files")

    def embedded(self, done: int, known: int) -> None:
        super().embedded(done, known)
        rate = f"{done} passages, {self.rate:.0f}/s"
        self._progress.update(self._task, completed=done, total=self.expected, rate=rate)


class _Lines(_Counter):
    def __init__(self) -> None:
        super().__init__()
        self._last = self.started

    def embedded(self, done: int, known: int) -> None:
        super().embedded(done, known)
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        left = max(0, self.expected - done) / max(1e-9, self.rate)
        line = (
            f"{self.seen}/{self.files} files, {done} passages embedded, {self.rate:.0f}/s, about {left:.0f} s left"
        )
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


@contextmanager
def reporting(*, quiet: bool) -> Iterator[Listener | None]:
    """The listener for an indexing run; it writes to standard error, and nothing at all when quiet."""
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield _Bar(progress)
