"""Ctrl-C once lets what has begun end; twice ends the process, whatever runs in it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import stuck_server
from served import wait_until


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    tests = Path(stuck_server.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tests)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, stuck_server.__file__, str(tmp_path / "store")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as found:
        yield found
        found.kill()


@pytest.mark.skipif(os.name == "nt", reason="its processes get no such signal")
def test_a_second_interrupt_ends_the_process_though_a_question_never_ends(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    address = re.search(r"http://\S+", process.stdout.readline())[0]  # type: ignore[index]

    def ask() -> None:
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{address}/v1/passages", json={"question": "What does cod cost?"}, timeout=None)

    asking = threading.Thread(target=ask)
    asking.start()
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    wait_until(lambda: _refuses(address))
    assert process.poll() is None and asking.is_alive(), "what has begun goes on"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    asking.join(60)
    assert not asking.is_alive()


def _refuses(address: str) -> bool:
    try:
        httpx.get(f"{address}/health")
    except httpx.TransportError:
        return True
    return False
