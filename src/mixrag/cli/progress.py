"""Progress and notices on standard error: bars with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from mixrag.cli.notices import notices
from mixrag.cli.show import error_line
from mixrag.utils.progress import Progress, ProgressEvent, no_progress
from mixrag.utils.text import printable_name

SECONDS_BETWEEN_LINES = 5.0
UNITS = {"answering": "questions", "reading passages": "passages", "finding passages": "pairs"}
"""What is counted, by stage."""
FILES, EMBEDDING, DEV = "reading files", "embedding", "dev pairs"


@contextmanager
def reporting(*, quiet: bool) -> Iterator[Progress]:
    """Progress for a long task, and what mixrag's loggers have to say meanwhile; neither when quiet."""
    if quiet:
        yield no_progress
    elif not sys.stderr.isatty():
        with notices(logging.INFO, error_line):
            yield Lines()
    else:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:

            def show(line: str) -> None:
                bars.console.print(Text(printable_name(line)), soft_wrap=True)

            with notices(logging.INFO, show):
                yield Bars(bars, show)


class _Embedding:
    """Estimates the number of passages to embed from the files read so far."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.files = self.read = self.done = self.known = 0

    def take(self, event: ProgressEvent) -> None:
        if event.stage == FILES:
            self.read, self.files = event.done, event.total or 0
        else:
            self.done, self.known = event.done, event.total or 0

    @property
    def expected(self) -> int:
        """Passages known, and as many for each file still to come as the files so far had."""
        # Passages are embedded before the current file counts as read.
        read = min(self.files, self.read + 1)
        return max(self.known, round(self.known * self.files / max(1, read)))

    @property
    def rate(self) -> float:
        return self.done / max(1e-9, time.monotonic() - self.start)

    @property
    def seconds_left(self) -> float:
        return max(0, self.expected - self.done) / max(1e-9, self.rate)


class Lines:
    """Plain lines, at most one in so many seconds of each kind, and one at the end."""

    def __init__(self, seconds: float = SECONDS_BETWEEN_LINES) -> None:
        self._seconds = seconds
        self._embedding = _Embedding()
        self._last = time.monotonic()
        self._start, self._first = self._last, 0

    def __call__(self, event: ProgressEvent) -> None:
        """Show an event, if it is time."""
        if event.stage in (FILES, EMBEDDING):
            self._embedding.take(event)
            if event.stage == EMBEDDING and self._is_time():
                now = self._embedding
                read = f"{now.read}/{now.files} files, {now.done} passages embedded"
                _write(f"{read}, {now.rate:.0f}/s, about {now.seconds_left:.0f} s left")
        elif event.stage == DEV:
            _write(dev_line(event))
        elif event.values:
            if self._is_time() or event.done == event.total:
                self._last = time.monotonic()
                seconds = (self._last - self._start) / max(1, event.done - self._first)  # a step
                left = seconds * ((event.total or 0) - event.done) / 60
                _write(f"{step_line(event)}, about {left:.0f} min left")
        elif event.stage.startswith(("training", "learning")):  # a run begins, or continues
            self._start, self._first, self._last = time.monotonic(), event.done, 0.0
        elif event.done == event.total or self._is_time():
            self._last = time.monotonic()
            unit = UNITS.get(event.stage, "")
            _write(f"{event.detail or event.stage}: {event.done} of {event.total} {unit}".rstrip())

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class Bars:
    """A bar for each stage on a terminal; lines above them where a figure is worth keeping."""

    def __init__(self, bars: RichProgress, show: Callable[[str], None]) -> None:
        self._bars, self._show = bars, show
        self._embedding = _Embedding()
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: ProgressEvent) -> None:
        """Show an event."""
        if event.stage in (FILES, EMBEDDING):
            found = self._embedding
            found.take(event)
            text = f"{found.done} passages, {found.rate:.0f}/s"
            description = f"{found.read}/{found.files} files"
            self._update(EMBEDDING, found.done, found.expected, text, description)
        elif event.stage == DEV:
            self._show(dev_line(event))
        else:
            name = event.detail or event.stage
            text = f"{event.done}/{event.total}"
            if event.values:
                text += f"  loss {event.values['loss']:.3f}{speed(event)}"
            self._update(name, event.done, event.total, text, printable_name(name))

    def _update(self, key: str, done: int, total: int | None, text: str, description: str) -> None:
        if key not in self._tasks:
            # A resumed run begins where it stopped: rate and time left count from there.
            self._tasks[key] = self._bars.add_task(description, total=total, completed=done, text=text)
        self._bars.update(
            self._tasks[key], completed=done, total=total or None, text=text, description=description
        )


def step_line(event: ProgressEvent) -> str:
    """What a training step measured."""
    values: Mapping[str, float] = event.values
    shown = [f"step {event.done}/{event.total}", f"loss {values['loss']:.3f}"]
    if "effective_posterior" in values:
        shown.append(f"effective passages {values['effective_posterior']:.2f}")
    if values.get("rows_backward"):
        # Neither is part of the other: pairs whose responsibilities are cached are not scored.
        shown.append(f"branches: {values['rows']:.0f} scored, {values['rows_backward']:.0f} backward")
    return ", ".join(shown) + speed(event)


def speed(event: ProgressEvent) -> str:
    """Tokens in a second, after a comma; empty where the step does not count them."""
    tokens, seconds = (event.values.get(name) for name in ("tokens", "seconds"))
    return f", {tokens / max(1e-9, seconds):.0f} tokens/s" if tokens and seconds else ""


def dev_line(event: ProgressEvent) -> str:
    """What an evaluation on the dev pairs measured."""
    values = event.values
    nll, best = values["nll"], values["best"]
    if "nll_answer" in values or "nll_empty" in values:
        named = {
            "gold answer": values.get("nll_answer"),
            "nothing where nothing is stated": values.get("nll_empty"),
        }
        parts = (f"-log p({name}) {value:.3f}" for name, value in named.items() if value is not None)
        return f"step {event.done}: dev {', '.join(parts)} nats; objective {nll:.3f} (best {best:.3f})"
    return f"step {event.done}: dev -log p(gold answer) {nll:.3f} nats per answer (best {best:.3f})"


def _write(line: str) -> None:
    sys.stderr.write(printable_name(line) + "\n")
    sys.stderr.flush()
