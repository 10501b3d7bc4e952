"""What a person sees of a long run: bars on a terminal, lines elsewhere, nothing with --json; it breaks no run."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from mixrag.cli import progress as shown
from mixrag.cli.notices import notices
from mixrag.cli.progress import Lines, reporting
from mixrag.utils.progress import ProgressEvent, guarded

STEP = {"loss": 1.25, "effective_posterior": 2.5, "rows": 12.0, "rows_backward": 5.0}
EVENTS = [
    ProgressEvent("reading files", 0, 2, "/a.txt"),
    ProgressEvent("embedding", 8, 20),
    ProgressEvent("reading files", 2, 2),
    ProgressEvent("training", 0, 2),
    ProgressEvent("training", 1, 2, values=STEP),
    ProgressEvent("dev pairs", 1, 2, values={"nll": 3.5, "best": 3.25}),
    ProgressEvent("training", 2, 2, values={"loss": 0.5}),
    ProgressEvent("answering", 3, 3, "closed-book"),
    ProgressEvent("reading passages", 4, 4),
    ProgressEvent("a stage of tomorrow", 5, None),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time, which stands still."""
    now = [1000.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    yield now


def run(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, quiet: bool = False) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with reporting(quiet=quiet) as report:
        for event in EVENTS:
            guarded(report)(event)
            if event.stage == "dev pairs":
                logging.getLogger("mixrag.training").info("stopped early \x1b[31m")
                logging.getLogger("mixrag.training").debug("not for people")
                logging.getLogger("other").warning("not ours")
    return stream.getvalue()


def test_lines_say_what_matters_and_no_more(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    assert run(io.StringIO(), monkeypatch).splitlines() == [
        "step 1/2, loss 1.250, effective passages 2.50, branches: 12 scored, 5 backward, about 0 min left",
        "step 1: dev -log p(gold answer) 3.500 nats per answer (best 3.250)",
        "mixrag: stopped early \ufffd[31m",
        "step 2/2, loss 0.500, about 0 min left",
        "closed-book: 3 of 3 questions",
        "reading passages: 4 of 4 passages",
    ]


def test_nothing_is_said_with_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(io.StringIO(), monkeypatch, quiet=True) == "" == run(Terminal(), monkeypatch, quiet=True)


def test_a_terminal_shows_bars_and_lines_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    text = run(Terminal(), monkeypatch)
    for part in (
        "2/2 files",
        "8 passages",
        "loss 0.500",
        "3/3",
        "closed-book",
        "reading passages",
        "stopped early",
    ):
        assert part in text, part
    assert "dev -log p(gold answer) 3.500" in text and "\x1b[31m" not in text
    assert "not for people" not in text and "not ours" not in text


def test_lines_of_embedding_come_now_and_then_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    lines = Lines(seconds=5.0)
    lines(ProgressEvent("reading files", 1, 4, "/b.txt"))
    for second in range(1, 12):
        clock[0] += 1
        lines(ProgressEvent("embedding", 10 * second, 200))
    # 200 passages in the two files so far: as many are expected of the other two.
    assert stream.getvalue().splitlines() == [
        "1/4 files, 50 passages embedded, 10/s, about 35 s left",
        "1/4 files, 100 passages embedded, 10/s, about 30 s left",
    ]


def test_time_left_of_a_resumed_run_counts_from_where_it_resumed(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    lines = Lines()
    lines(ProgressEvent("training", 90, 100))
    clock[0] += 60
    lines(ProgressEvent("training", 91, 100, values={"loss": 1.0}))
    assert stream.getvalue() == "step 91/100, loss 1.000, about 9 min left\n"


def test_loggers_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("mixrag")
    before = logger.level, list(logger.handlers)
    run(io.StringIO(), monkeypatch)
    assert (logger.level, list(logger.handlers)) == before


def test_inside_a_command_a_notice_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logger, said = logging.getLogger("mixrag.training"), list[str]()
    before = logging.getLogger("mixrag").level
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with notices(logging.WARNING, said.append):
        logger.info("not for people")
        logger.warning("before")
        with reporting(quiet=False):
            logger.warning("meanwhile")
        with reporting(quiet=True):
            logger.warning("with --json")
    assert said == ["before", "with --json"] and stream.getvalue() == "mixrag: meanwhile\n"
    assert logging.getLogger("mixrag").level == before


def test_a_stream_that_is_gone_breaks_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(logging, "raiseExceptions", False)
    run(Gone(), monkeypatch)
