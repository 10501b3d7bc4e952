"""The file of API keys, and the command that writes it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import sys
from pathlib import Path
from unittest import mock

import pytest

from mixrag.cli import main
from mixrag.errors import MixragError, OutputError, SettingError
from mixrag.server.security.keys import PREFIX, KeyFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_found_by_its_text_alone(path: Path) -> None:
    keys = KeyFile(path)
    alice, bob = keys.add("alice"), keys.add("bob")
    assert alice.startswith(PREFIX) and alice != bob
    assert keys.name_of(alice.encode()) == "alice"
    assert keys.name_of(bob.encode()) == "bob"
    for wrong in (b"", alice[:-1].encode(), alice.upper().encode(), b"x" * 1000, b"\xff\x00"):
        assert keys.name_of(wrong) is None


def test_the_file_has_no_key_and_is_its_owners(path: Path) -> None:
    keys = KeyFile(path)
    found = [keys.add("alice"), keys.add("bob")]
    text = path.read_text()
    assert not any(key.removeprefix(PREFIX)[:12] in text for key in found)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len({each.salt for each in keys.stored()}) == 2


def test_the_mode_does_not_depend_on_the_umask_or_on_what_a_killed_process_left(path: Path) -> None:
    left = path.with_name(f".writing-{path.name}")
    left.write_text("half")
    left.chmod(0o666)
    before = os.umask(0)
    try:
        KeyFile(path).add("alice")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not left.exists()


def test_a_running_server_sees_keys_come_and_go(path: Path) -> None:
    serving, editing = KeyFile(path), KeyFile(path)
    first = editing.add("alice")
    assert serving.name_of(first.encode()) == "alice"
    second = editing.add("bob")
    assert serving.name_of(second.encode()) == "bob"
    editing.remove("alice")
    assert serving.name_of(first.encode()) is None
    assert serving.name_of(second.encode()) == "bob"


def test_no_key_is_accepted_where_the_file_is_gone_or_damaged(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeyFile(path)
    key = keys.add("alice")
    content = path.read_bytes()
    assert keys.name_of(key.encode()) == "alice"
    path.unlink()
    assert keys.name_of(key.encode()) is None
    assert keys.name_of(key.encode()) is None
    assert len(caplog.records) == 1
    path.write_bytes(content)
    path.chmod(0o600)
    assert keys.name_of(key.encode()) == "alice"
    path.write_bytes(content[:-9])
    assert keys.name_of(key.encode()) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"keys": [{}]}',
        b'{"keys": 3}',
        b"\xff",
        json.dumps({"keys": [{"name": "a", "created": "", "salt": "zz", "hash": "00" * 32}]}).encode(),
        json.dumps({"keys": [{"name": "a", "created": "", "salt": "00" * 16, "hash": ""}]}).encode(),
    ],
)
def test_what_is_no_file_of_keys_is_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SettingError, match="a file that mixrag keys add wrote"):
        KeyFile(path).stored()


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    keys = KeyFile(path)
    keys.add("alice")
    path.chmod(0o620)
    with pytest.raises(SettingError, match="chmod 600"):
        keys.stored()


@pytest.mark.parametrize("name", ["", "a b", "a\n", "../a", "-a", "é", "a" * 65])
def test_names_that_could_forge_a_line_of_the_log_are_refused(path: Path, name: str) -> None:
    with pytest.raises(SettingError):
        KeyFile(path).add(name)
    assert not path.exists()


def test_a_name_twice_and_one_that_is_not_there(path: Path) -> None:
    keys = KeyFile(path)
    keys.add("alice")
    with pytest.raises(SettingError, match="not taken"):
        keys.add("alice")
    with pytest.raises(SettingError, match="the name of a key"):
        keys.remove("bob")
    with pytest.raises(OutputError):
        KeyFile(path / "below").add("alice") if os.geteuid() else KeyFile(Path("/proc/keys.json")).add("alice")


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["mixrag", "keys", *map(str, arguments)]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert (ended.value.code or 0) == code, errors.getvalue()
    return output.getvalue(), errors.getvalue()


def test_the_command_prints_a_key_once(path: Path) -> None:
    key, said = run("add", "alice", "--file", path)
    assert KeyFile(path).name_of(key.strip().encode()) == "alice"
    assert key.strip() not in said
    listed, _ = run("list", "--file", path)
    assert listed.startswith("alice\t20") and PREFIX not in listed
    assert [each["name"] for each in json.loads(run("list", "--file", path, "--json")[0])["keys"]] == ["alice"]
    assert json.loads(run("add", "bob", "--file", path, "--json")[0])["key"].startswith(PREFIX)
    run("remove", "alice", "--file", path)
    assert [each.name for each in KeyFile(path).stored()] == ["bob"]


def test_the_commands_errors_are_one_line(path: Path) -> None:
    for arguments in (("add", "a b"), ("remove", "alice")):
        output, errors = run(*arguments, "--file", path, code=1)
        assert output == "" and errors.startswith("mixrag: expected ") and errors.count("\n") == 1
    assert issubclass(SettingError, MixragError)
