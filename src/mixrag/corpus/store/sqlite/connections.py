"""SQLite connections to one store."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mixrag.corpus.store.pool import Pool
from mixrag.corpus.store.sqlite import schema


class Connections(Pool[sqlite3.Connection]):
    """See ``Pool``."""

    def __init__(self, directory: Path, first: sqlite3.Connection, timeout: float) -> None:
        super().__init__(str(directory), first)
        self.directory, self.timeout = directory, timeout

    def connected(self) -> sqlite3.Connection:
        """See ``Pool.connected``."""
        return schema.connect(self.directory / schema.FILE_NAME, self.timeout)
