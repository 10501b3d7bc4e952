"""A lock between processes, and between threads, that the system frees when its holder dies."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

WAIT_SECONDS = 5.0
"""A wait of this length cannot be interrupted, for SQLite does the waiting; ``awaited`` repeats it."""


class DamagedLockError(OSError):
    """A lock file with the content of something else. It holds nothing, so that removing it loses nothing."""

    remedy = "delete it while no mixrag process is running"

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is not a lock file that mixrag wrote; {self.remedy}")


@contextmanager
def exclusive(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock of the file ``path``; the file is created where there is none, and stays.

    SQLite does the locking: it works the same on all systems, and between connections of one process.

    Raises:
        TimeoutError: another process or thread did not release it for ``timeout`` seconds.
        DamagedLockError: the file has a content that is not a lock's.
        OSError: the file cannot be opened or written.
    """
    try:
        lock = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise TimeoutError(f"{path} is locked") from error
            if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
                raise DamagedLockError(path) from error
            raise OSError(f"{path}: {error}") from error
        yield
    finally:
        lock.close()


@contextmanager
def awaited(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """``exclusive``, but waiting as long as the holder lives: the lock of one that dies is free.

    Args:
        path: the file.
        waiting: called once, if the lock is not free within ``WAIT_SECONDS``.

    Raises:
        DamagedLockError: see ``exclusive``.
        OSError: see ``exclusive``.
    """
    with ExitStack() as held:
        said = False
        while True:
            try:
                # Entered here, so that a TimeoutError of what is done under the lock is not taken for one of it.
                held.enter_context(exclusive(path, WAIT_SECONDS))
                break
            except TimeoutError:
                if not said:
                    waiting()
                said = True
        yield
