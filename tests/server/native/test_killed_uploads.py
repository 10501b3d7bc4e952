"""A process that is killed at any step of an upload or deletion: files and store agree after the next start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import killed_uploads
import pytest
from killed_uploads import FIRST, OTHER, SECOND

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What is there after each kill, by change; the last of each was not killed."""
    tests = Path(killed_uploads.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tests)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, killed_uploads.__file__, str(tmp_path_factory.mktemp("killed"))]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found = defaultdict(list)
    for each in json.loads(done.stdout.splitlines()[-1]):
        found[each["change"]].append(each)
    return found


@pytest.mark.parametrize("change", killed_uploads.CHANGES)
def test_files_and_store_agree(outcomes: dict[str, list[dict[str, Any]]], change: str) -> None:
    found = outcomes[change]
    assert len(found) > 5 and not found[-1]["killed"]
    for each in found:
        assert each["stored"] == each["files"], each
        assert each["marks"] == [], each


def test_a_replacement_happens_or_not(outcomes: dict[str, list[dict[str, Any]]]) -> None:
    found = outcomes["replaced"]
    states = [tuple(sorted(each["files"].items())) for each in found]
    assert set(states) <= {
        (("a.txt", FIRST),),
        (("a.txt", SECOND),),  # both had arrived, and it was killed between their places
        (("a.txt", SECOND), ("b.txt", OTHER)),
    }
    assert states[0] == (("a.txt", FIRST),) and states[-1] == (("a.txt", SECOND), ("b.txt", OTHER))
    assert states == sorted(states, key=lambda each: (len(each), SECOND in dict(each).values()))


def test_what_cannot_be_read_never_takes_the_place_of_what_could(
    outcomes: dict[str, list[dict[str, Any]]],
) -> None:
    assert all(each["files"] == {"a.txt": FIRST} for each in outcomes["replaced_by_what_cannot_be_read"])


def test_a_deletion_happens_or_not(outcomes: dict[str, list[dict[str, Any]]]) -> None:
    kinds = [bool(each["files"]) for each in outcomes["deleted"]]
    assert kinds == sorted(kinds, reverse=True) and kinds[0] and not kinds[-1]
