"""mixrag precompute as a person or a script meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.test_commands import QUESTION, Shell
from tiny_encoder import save_encoder


@pytest.fixture
def shell(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Shell:
    shell = Shell(tmp_path, save_encoder(tmp_path / "encoder"), tiny_folder("llama-chat"))
    shell("index", shell.files)
    shell.models["precompute"] = shell.models["ask"]
    return shell


def test_what_is_read_ahead_is_seen_by_info_and_why(shell: Shell) -> None:
    assert "precomputed  -" in shell("info")
    cold = shell.json("ask", QUESTION, "-k", "2", "--why")
    assert cold["why"]["prefix_cache"] == {"hits": 0, "misses": 2}
    assert shell("precompute").startswith("3 of 3 passages in files, 3 read now, ")
    assert "passages" in shell.errors
    assert "3 passages read ahead" in shell("info")
    warm = shell.json("ask", QUESTION, "-k", "2", "--why")
    assert warm["why"]["prefix_cache"] == {"hits": 2, "misses": 0}
    assert warm["log_prob"] == pytest.approx(cold["log_prob"], abs=1e-4)
    assert "had read before: 2 of 2 times" in shell("ask", QUESTION, "-k", "2", "--why")


def test_the_contract_of_precompute(shell: Shell) -> None:
    found = shell.json("precompute")
    assert set(found) == {"passages", "of", "read", "bytes"}
    assert shell.json("precompute") == {**found, "read": 0}
    assert shell.json("info")["precomputed"] == {"passages": 3, "bytes": found["bytes"]}
    assert shell.json("precompute", "--forget") == {"deleted": 3}
    assert shell.json("info")["precomputed"] == {"passages": 0, "bytes": 0}


def test_room_for_some_only(shell: Shell) -> None:
    whole = shell.json("precompute")["bytes"]
    shell("precompute", "--forget")
    told = shell("precompute", "--gib", f"{0.5 * whole / 2**30:.12f}")
    assert told.startswith("1 of 3 passages in files, 1 read now, ") and "room for the others: --gib above" in told


def test_numbers_outside_their_range_are_refused(shell: Shell) -> None:
    assert "--gib to be a number in (0, 10^9]" in shell.refused("precompute", "--gib", "0")
    assert "--prefix-cache to be a whole number" in shell.refused("precompute", "--prefix-cache", "-1")
    assert "with a prefix cache" in shell.refused("precompute", "--prefix-cache", "0")
