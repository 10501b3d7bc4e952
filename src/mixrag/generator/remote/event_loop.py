"""One event loop, in a thread of its own, for the requests of all clients of this process.

A question to many shards has a client for each, which with a thread each would wait for one another's threads.
"""

from __future__ import annotations

import asyncio
import threading

import httpx2

_STARTING = threading.Lock()
_RUNNING: list[tuple[threading.Thread, asyncio.AbstractEventLoop]] = []
"""At most one."""


def running_loop() -> asyncio.AbstractEventLoop:
    """The loop, which is started here where there is none: no thread outlives a fork."""
    with _STARTING:
        if not _RUNNING or not _RUNNING[-1][0].is_alive():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="mixrag-remote", daemon=True)
            thread.start()
            _RUNNING[:] = [(thread, loop)]
        return _RUNNING[-1][1]


def close_in(loop: asyncio.AbstractEventLoop, client: httpx2.AsyncClient) -> None:
    """Close a client of a loop, unless that has ended.

    It takes no lock, since it is called while garbage is collected, in any thread.
    """
    if any(each is loop and thread.is_alive() for thread, each in _RUNNING):
        asyncio.run_coroutine_threadsafe(client.aclose(), loop)
