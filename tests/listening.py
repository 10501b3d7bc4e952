"""An application on a free port of loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn


class listening:
    """Serve an application on a free port of loopback, or on a socket, which stays open for a next server."""

    def __init__(self, app: Any, config: uvicorn.Config | None = None, at: socket.socket | None = None) -> None:
        self._server = uvicorn.Server(config or uvicorn.Config(app, port=0, log_level="warning"))
        sockets = None if at is None else [at.dup()]  # the server closes its own
        self._thread = threading.Thread(target=self._server.run, args=(sockets,), daemon=True)

    def __enter__(self) -> str:
        """Start; the address, such as http://127.0.0.1:40123."""
        self._thread.start()
        wait_until(lambda: self._server.started)
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    def __exit__(self, *error: object) -> None:
        """Stop, and wait for it."""
        self._server.should_exit = True
        self._thread.join()


def wait_until(true: Callable[[], bool]) -> None:
    """Poll; a test that waits in vain is ended by its time limit."""
    while not true():
        time.sleep(0.005)
