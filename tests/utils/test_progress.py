"""Progress reports what happens, and cannot break what it reports on."""

from __future__ import annotations

import logging

import pytest

from mixrag.utils.progress import ProgressEvent, guarded, no_progress

EVENTS = [ProgressEvent("embedding", done, 3) for done in range(4)]


def test_events_pass_in_their_order() -> None:
    seen: list[ProgressEvent] = []
    for event in EVENTS:
        guarded(seen.append)(event)
    assert seen == EVENTS


def test_without_a_callable_nothing_happens() -> None:
    for event in EVENTS:
        assert guarded(None)(event) is None and no_progress(event) is None


def test_a_callable_that_fails_is_logged_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def fails(event: ProgressEvent) -> None:
        calls.append(event.done)
        if event.done == 1:
            raise ValueError("a bug of the application")

    report = guarded(fails)
    with caplog.at_level(logging.WARNING, "mixrag"):
        for event in EVENTS:
            report(event)
    assert calls == [0, 1] and [record.name for record in caplog.records] == ["mixrag.utils.progress"]
    assert "a bug of the application" in caplog.text


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_whoever_ends_the_run_from_there_ends_it(stop: type[BaseException]) -> None:
    def ends(event: ProgressEvent) -> None:
        raise stop

    with pytest.raises(stop):
        guarded(ends)(EVENTS[0])
