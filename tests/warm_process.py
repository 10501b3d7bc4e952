"""Processes to be killed at any instant, which start at once: forked from one that imported what is slow."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

_IMPORTED = ["lancedb", "mixrag.corpus.store.lance.store", "mixrag.corpus.store.postgres.store", "pytest"]
"""LanceDB alone takes two seconds of a processor."""


@contextmanager
def running(target: Callable[..., None], *arguments: Any) -> Iterator[tuple[ForkServerProcess, Connection]]:
    """A process that calls ``target`` with what it sends messages by and the arguments; and the other end.

    The target can be imported, and so can the modules of the arguments. The process is gone at the end.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(_IMPORTED)
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=_called, args=(dict(os.environ), target, theirs, *arguments))
    process.start()
    theirs.close()  # so that what reads meets the end when the process is gone
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def kill_after(seconds: float, said: Sequence[str], target: Callable[..., None], *arguments: Any) -> list[str]:
    """Call ``target`` in a process that is killed so many seconds after it has said this; what else it said."""
    with running(target, *arguments) as (process, messages):
        for each in said:
            assert messages.recv() == each
        time.sleep(seconds)
        process.kill()
        found = sent_until_the_end(messages)
        process.join()
    assert process.exitcode == -signal.SIGKILL
    return found


def _called(environment: dict[str, str], target: Callable[..., None], *arguments: Any) -> None:
    """The server of forks keeps the environment of its start; that of the test names the server of objects."""
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)


def sent_until_the_end(messages: Connection) -> list[str]:
    """What the process still sent, until it ended."""
    found: list[str] = []
    try:
        while True:
            found.append(messages.recv())
    except EOFError:
        return found
