"""How far a run has come: bars with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mixrag.cli.show import error_line
from mixrag.utils.text import printable

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


@contextmanager
def telling(noun: str, *, quiet: bool) -> Iterator[tuple[Any, Any]]:
    """Two functions: told(name, done, total) of one or several counts, and noticed(notice)."""
    if quiet:
        yield (lambda name, done, total: None), (lambda notice: None)
    elif sys.stderr.isatty():
        with _named_bars() as both:
            yield both
    else:
        yield _named_lines(noun), error_line


@contextmanager
def _named_bars() -> Iterator[tuple[Any, Any]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        def noticed(notice: str) -> None:
            progress.console.print(Text(printable(notice)), soft_wrap=True)

        yield told, noticed


def _named_lines(noun: str) -> Any:
    last = time.monotonic()

    def told(name: str, done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            sys.stderr.write(f"{name}: {done} of {total} {noun}\n")

    return told
