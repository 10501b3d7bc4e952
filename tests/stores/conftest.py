"""Every test of this folder runs over each backend: what it checks is the contract of a store.

A further backend is a fixture NAME_backend that gives a ``store_backends.Backend``, and its name in ``BACKENDS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_corpus import FakeEncoder
from mixrag.corpus import Store
from store_backends import Backend, SqliteBackend

BACKENDS = ("sqlite",)


@pytest.fixture
def sqlite_backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    found: Backend = request.getfixturevalue(f"{request.param}_backend")
    yield found
    found.destroy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def store(backend: Backend) -> Iterator[Store]:
    with backend.open() as store:
        yield store


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()
