"""The demo's documents in one store, and in ten shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from listening import listening
from mixrag import RAG
from mixrag.generator import Generator
from mixrag.server.app import make_app
from sharded_demo import CORPUS, SERVED, Open, indexed, locations, opener, served


@pytest.fixture(scope="session")
def opened(tiny_generator: Callable[[str], Generator]) -> Open:
    return opener(tiny_generator("llama-chat"))


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory, opened: Open) -> Iterator[RAG]:
    """One store of all documents."""
    with opened(tmp_path_factory.mktemp("one") / "store", create=True) as rag:
        rag.index([CORPUS])
        yield rag


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory, opened: Open) -> list[str]:
    """The same documents in ten stores, each indexed by itself."""
    found = locations(tmp_path_factory.mktemp("shards"))
    indexed(opened, found)
    return found


@pytest.fixture(scope="session")
def shards(stores: list[str], opened: Open) -> Iterator[list[str]]:
    """What asks the ten shards: two of them by their addresses."""
    with ExitStack() as serving:
        addresses = {
            each: serving.enter_context(listening(make_app(served(opened(stores[each]))))) for each in SERVED
        }
        yield [f"{addresses[s]}/part" if s in addresses else store for s, store in enumerate(stores)]


@pytest.fixture(scope="session")
def parts(shards: list[str], opened: Open) -> Iterator[RAG]:
    """The ten shards as one."""
    with opened(",".join(shards)) as rag:
        yield rag
