"""A lock between processes, and between threads, that the system frees when its holder dies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock of the file ``path``; the file is created where there is none, and stays.

    SQLite does the locking: it works the same on all systems, and between connections of one process.

    Raises:
        TimeoutError: another process or thread did not release it for ``timeout`` seconds.
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
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise TimeoutError(f"{path} is locked") from error
            raise OSError(f"{path}: {error}") from error
        yield
    finally:
        lock.close()
