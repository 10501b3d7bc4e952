"""A small store, served: in this process, or on loopback for clients with a connection of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from fastapi.testclient import TestClient
from served import ANSWERS, TEXTS, listening

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.server.app import make_app
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from scripted import scripted
from words_encoder import WordsEncoder


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
