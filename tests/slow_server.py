"""A server of language models that answers when the test wants it."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field

import httpx2

from fake_server import FakeServer


@dataclass
class SlowServer:
    """Answers as ``server`` does; while ``hold`` is set, a request waits for as long as its client does."""

    server: FakeServer
    hold: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    """A request waits."""
    aborted: threading.Event = field(default_factory=threading.Event)
    """The client has given a request up."""
    count: int = 0
    """Requests sent."""

    def transport(self) -> httpx2.MockTransport:
        async def handle(request: httpx2.Request) -> httpx2.Response:
            self.count += 1
            if self.hold.is_set():
                self.begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.aborted.set()
            document = json.loads(request.content) if request.content else None
            found = self.server.answer(request.url.path, document, dict(request.headers))
            return httpx2.Response(200, content=json.dumps(found).encode())

        return httpx2.MockTransport(handle)
