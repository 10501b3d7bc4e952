"""Addresses and connections that do not work: one line each, and soon."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from mixrag.config.command_settings import IndexingSettings
from mixrag.corpus.distributed import cluster
from mixrag.errors import ClusterError, MissingPackageError, SettingError


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize("address", ["", "here", "http://host:1", "host:", "a b:3", "ray://host", "local:"])
def test_no_address(address: str) -> None:
    with pytest.raises(SettingError, match="HOST:PORT"):
        cluster.check_address(address)


@pytest.mark.parametrize("address", ["local", "auto", "head:6379", "ray://10.0.0.1:10001", "[::1]:6379"])
def test_addresses(address: str) -> None:
    cluster.check_address(address)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_closed_port(closed: int, form: str) -> None:
    with pytest.raises(ClusterError, match="no answer at") as failed, cluster.connected(form.format(closed)):
        pass
    assert "\n" not in str(failed.value)


def test_stale_address_in_the_environment(closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed}")
    with pytest.raises(ClusterError, match="no answer at"), cluster.connected("auto"):
        pass


def test_silent_port(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    ended: list[bool] = []
    monkeypatch.setattr(ray, "init", lambda **_: ended.append(silent_forever()))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    expected = pytest.raises(ClusterError, match=r"no connection within 0.5 s")
    with expected, cluster.connected(f"127.0.0.1:{silent}"):
        pass


def silent_forever() -> bool:
    import threading

    return threading.Event().wait(5)


def test_other_versions(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._private.utils import check_version_info

    def init(**_: object) -> None:
        check_version_info({"ray_version": "2.9.0", "python_version": "3.9.1"}, "this machine")

    monkeypatch.setattr(ray, "init", init)
    expected = pytest.raises(ClusterError, match=r"found Ray 2.9.0, Python 3.9.1; install the same versions")
    with expected, cluster.connected(f"127.0.0.1:{silent}"):
        pass


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r'pip install "mixrag\[ray\]"'), cluster.connected("local"):
        pass


def test_settings() -> None:
    assert IndexingSettings().ray is None and IndexingSettings().ray_encoders is None
    with pytest.raises(SettingError):
        IndexingSettings(ray_encoders=0)
