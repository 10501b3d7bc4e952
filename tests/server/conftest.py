"""A small store, served: in this process, or on loopback for clients with a connection of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from fastapi.testclient import TestClient

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.server.app import make_app
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from scripted import scripted
from words_encoder import WordsEncoder

TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns a year.",
    "eel.txt": "A licence to fish eel costs four crowns a season.",
    "hen.txt": "Hens lay fewer eggs during winter.",
}
QUESTION = "What does a licence for cod cost?"
ANSWERS = {
    "cod": {"nine crowns": 0.9, "four crowns": 0.05},
    "eel": {"four crowns": 0.8, "nine crowns": 0.1},
    "": {"nine crowns": 0.3, "four crowns": 0.3},
}
"""What the language model answers where a passage has this word."""


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    """A store of three files; the language model follows ``ANSWERS``."""
    files = tmp_path / "files"
    files.mkdir()
    for name, text in TEXTS.items():
        (files / name).write_text(text)
    found = RAG(
        Store.open(tmp_path / "store", create=True),
        encoder=WordsEncoder(),
        generator=scripted(ANSWERS),
        settings=Settings(max_tokens=6),
    )
    with found:
        found.index([files])
        yield found


@pytest.fixture
def service(rag: RAG) -> Service:
    """The store as "demo", with the preset "short"."""
    return Service(Stores([Served("demo", rag, {"short": {"max_tokens": 1}})]))


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    """A client in this process; errors of the server come as responses."""
    with TestClient(make_app(service), base_url="http://127.0.0.1", raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def address(service: Service) -> Iterator[str]:
    """The address of the same application on loopback."""
    with listening(make_app(service)) as found:
        yield found


@pytest.fixture
def official(address: str) -> Iterator[openai.OpenAI]:
    """The official client of OpenAI's API."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as found:
        yield found


class listening:
    """Serve an application on a free port of loopback."""

    def __init__(self, app: Any, config: uvicorn.Config | None = None) -> None:
        self._server = uvicorn.Server(config or uvicorn.Config(app, port=0, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

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
