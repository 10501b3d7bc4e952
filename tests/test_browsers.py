"""Where a browser is required, its absence fails the tests of pages instead of skipping them."""

from __future__ import annotations

import pytest

from browsers import REQUIRED, browser_path


def nowhere(name: str) -> None:
    return None


def test_without_a_browser_tests_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "0"):
        monkeypatch.delenv(REQUIRED, raising=False)
        if value is not None:
            monkeypatch.setenv(REQUIRED, value)
        assert browser_path(nowhere) is None


def test_where_it_is_required_its_absence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(RuntimeError, match="no browser"):
        browser_path(nowhere)
    assert browser_path(lambda name: f"/bin/{name}") == "/bin/chromium"
