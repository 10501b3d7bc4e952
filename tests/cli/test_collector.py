"""Commands that go on for long collect garbage as usual; the others leave what libraries made alone."""

from __future__ import annotations

import gc

import pytest

from mixrag import cli


def test_a_command_that_stays_has_the_usual_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    found, usual, seen = gc.get_threshold(), (700, 10, 10), []
    gc.set_threshold(*usual)  # another test of this process may have run a command

    def run() -> None:
        seen.append(gc.get_threshold())
        cli.stays()
        seen.append(gc.get_threshold())

    monkeypatch.setattr(cli, "_run", run)
    monkeypatch.setattr(cli, "_quiet_libraries", lambda: None)
    monkeypatch.setattr(cli, "_usual", None)
    try:
        cli.stays()
        assert gc.get_threshold() == usual, "not of this program's making"
        cli.main()
    finally:
        gc.unfreeze()
        gc.set_threshold(*found)
    assert seen[0][0] > usual[0] and seen[1] == usual


@pytest.mark.parametrize("name", ["serve", "mcp"])
def test_the_servers_are_such_commands(name: str) -> None:
    import importlib

    assert importlib.import_module(f"mixrag.cli.{name}").stays is cli.stays
