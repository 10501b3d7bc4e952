"""Which settings are safe enough to serve with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mixrag.cli import main
from mixrag.config.command_settings import ServerSettings
from mixrag.errors import SettingError
from mixrag.server.security.hosts import is_own_origin
from mixrag.server.security.keys import KeyFile
from mixrag.server.security.policy import Security, policy


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    KeyFile(tmp_path / "keys.json").add("alice")
    return tmp_path / "keys.json"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.8.8", "::1"])
def test_this_machine_needs_no_keys(host: str) -> None:
    found = policy(ServerSettings(host=host))
    assert found.keys is None
    assert found.knows("localhost") and found.knows("127.0.0.1") and found.knows("[::1]")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7", "2001:db8::1", "no such host", "a" * 300])
def test_another_address_needs_keys(host: str, keys: Path) -> None:
    with pytest.raises(SettingError, match=r"expected --keys FILE.*mixrag keys add NAME") as error:
        policy(ServerSettings(host=host))
    assert "\n" not in str(error.value)


def test_with_keys_another_address_may_be_listened_at(keys: Path) -> None:
    found = policy(ServerSettings(host="192.0.2.7", keys=keys, allowed_host=("Rag.Example.org",)))
    assert found.keys is not None
    assert found.knows("192.0.2.7") and found.knows("rag.example.org")
    assert not found.knows("192.0.2.8") and not found.knows("example.org")


def test_at_all_addresses_any_address_is_known_and_no_name(keys: Path) -> None:
    for host in ("0.0.0.0", "::"):
        found = policy(ServerSettings(host=host, keys=keys))
        assert found.knows("192.0.2.7") and found.knows("[2001:db8::1]")
        assert not found.knows("evil.example") and not found.knows("0x7f000001") and not found.knows("1.2.3")


def test_a_file_without_keys_is_refused(tmp_path: Path, keys: Path) -> None:
    with pytest.raises(SettingError, match="none in"):
        policy(ServerSettings(keys=tmp_path / "other.json"))
    KeyFile(keys).remove("alice")
    with pytest.raises(SettingError, match="none in"):
        policy(ServerSettings(keys=keys))


@pytest.mark.parametrize("name", ["", "*", "a:80", "http://a", "a/b", "a b", "*.example.org", "a\n"])
def test_what_is_no_host(name: str) -> None:
    with pytest.raises(SettingError, match="a host name"):
        policy(ServerSettings(allowed_host=(name,)))


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "example.org",
        "https://a/",
        "https://a/b",
        "ftp://a",
        "https://u@a",
        "https://a:443",
        "https://a b",
    ],
)
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(SettingError, match="an origin"):
        policy(ServerSettings(cors=(origin,)))
    assert policy(ServerSettings(cors=("HTTPS://Chat.example.org:8443",))).origins == (
        "https://chat.example.org:8443",
    )


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"request_mb": 0.5}, "request_bytes", 2**19),
        ({"upload_mb": 2.0}, "upload_bytes", 2**21),
        ({"read_seconds": 3.0}, "read_seconds", 3.0),
        ({"connections": 7}, "connections", 7),
    ],
)
def test_limits_are_the_settings(changes: dict[str, Any], field: str, value: float) -> None:
    assert getattr(policy(ServerSettings(**changes)), field) == value


def test_the_defaults_are_those_of_the_settings() -> None:
    assert policy(ServerSettings()) == Security(hosts=frozenset({"127.0.0.1"}))


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("https://rag.example.org", "rag.example.org", True),
        ("https://rag.example.org", "RAG.example.org:443", True),
        ("http://rag.example.org", "rag.example.org:80", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://127.0.0.1:3000", "127.0.0.1:8080", False),
        ("http://evil.example", "127.0.0.1:8080", False),
        ("http://127.0.0.1:8080.evil.example", "127.0.0.1:8080", False),
        ("http://evil.example@127.0.0.1:8080", "127.0.0.1:8080", False),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080", False),
        ("null", "127.0.0.1", False),
        ("", "", False),
        ("http://", "", False),
        ("file://", "", False),
    ],
)
def test_whose_origin_it_is(origin: str, host: str, own: bool) -> None:
    assert is_own_origin(origin, host) is own


def test_the_command_refuses_before_it_opens_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mixrag", "serve", "--host", "0.0.0.0", "--store", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "mixrag: expected --keys FILE with an address that other machines reach; "
        "found --host 0.0.0.0 without keys; run: mixrag keys add NAME --file FILE, and serve with --keys FILE\n"
    )
