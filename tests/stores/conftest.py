"""Every test of this folder runs over each backend: what it checks is the contract of a store.

A further backend is a fixture NAME_backend that gives a ``store_backends.Backend``, and its name in ``BACKENDS``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_corpus import FakeEncoder
from mixrag.corpus import Store
from mixrag.corpus.store.lance import lease
from moto_server import environment, serving
from postgres_server import PostgresBackend, PostgresServer
from store_backends import Backend, LanceBackend, S3Backend, SqliteBackend

BACKENDS = ("sqlite", "lance", "s3", "postgres")


@pytest.fixture
def sqlite_backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path)


@pytest.fixture
def lance_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LanceBackend:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    return LanceBackend(tmp_path)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server of objects on this machine."""
    with serving() as address:
        yield address


@pytest.fixture
def s3_backend(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Backend]:
    import boto3

    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    for name, value in environment(s3_server).items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{secrets.token_hex(4)}"
    bucket = boto3.resource("s3").create_bucket(Bucket=name)
    yield S3Backend(name)
    bucket.objects.delete()
    bucket.delete()


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a process that was killed is free after a second: no other one writes."""
    monkeypatch.setattr(lease, "LEASE", 1.0)
    monkeypatch.setattr(lease, "_RENEWED", 0.25)


@pytest.fixture
def postgres_backend(postgres: PostgresServer) -> PostgresBackend:
    return PostgresBackend(postgres)


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
