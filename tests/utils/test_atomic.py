"""Files and folders are whole or as before: whatever fails, whoever else writes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mixrag.utils.atomic import replace_atomically, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def folder_of(**files: str):
    """Writes a folder of these files."""

    def write(path: Path) -> None:
        path.mkdir()
        for name, text in files.items():
            (path / name).write_text(text)

    return write


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_a_file_that_cannot_be_written_leaves_the_former(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, shared: bool
) -> None:
    write_atomically(tmp_path / "a", b"one")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(owner, name, full)
        write_atomically(tmp_path / "a", b"two", shared=shared)
    assert (tmp_path / "a").read_bytes() == b"one" and names(tmp_path) == ["a"]


def test_files_and_names_are_on_the_disk_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(str(Path(f"/proc/self/fd/{number}").readlink())) or real(number)
    )
    write_atomically(tmp_path / "a", b"one")
    assert synced == [str(tmp_path / ".writing-a"), str(tmp_path)]
    synced.clear()
    replace_atomically(tmp_path / "b", folder_of(x="1", y="2"))
    scratch = tmp_path / ".writing-b"
    assert {*synced[:3]} == {str(scratch), str(scratch / "x"), str(scratch / "y")} and synced[3:] == [
        str(tmp_path)
    ]


def test_a_folder_takes_the_place_of_another_with_all_its_files(tmp_path: Path) -> None:
    replace_atomically(tmp_path / "new" / "a", folder_of(x="1", y="2"))
    replace_atomically(tmp_path / "new" / "a", folder_of(x="3"))
    assert content(tmp_path / "new" / "a") == {"x": "3"} and names(tmp_path / "new") == ["a"]


def test_a_file_by_another_library(tmp_path: Path) -> None:
    replace_atomically(tmp_path / "a", lambda path: path.write_text("one"))
    replace_atomically(tmp_path / "a", lambda path: path.write_text("two"))
    assert (tmp_path / "a").read_text() == "two" and names(tmp_path) == ["a"]


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace"), (Path, "rename")])
def test_a_folder_that_cannot_be_put_in_place_leaves_the_former(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    replace_atomically(tmp_path / "a", folder_of(x="1"))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(owner, name, full)
        replace_atomically(tmp_path / "a", folder_of(x="2"))
    assert content(tmp_path / "a") == {"x": "1"} and names(tmp_path) == ["a"]


def test_whatever_the_library_raises_leaves_the_former(tmp_path: Path) -> None:
    replace_atomically(tmp_path / "a", folder_of(x="1"))

    def half(path: Path) -> None:
        folder_of(x="2")(path)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        replace_atomically(tmp_path / "a", half)
    assert content(tmp_path / "a") == {"x": "1"} and names(tmp_path) == ["a"]


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    for name in (".writing-a", ".replaced-a"):
        folder_of(junk="half")(tmp_path / name)
    (tmp_path / ".writing-b").write_text("half")
    replace_atomically(tmp_path / "a", folder_of(x="1"))
    replace_atomically(tmp_path / "a", folder_of(x="2"))
    write_atomically(tmp_path / "b", b"whole")
    assert content(tmp_path / "a") == {"x": "2"} and names(tmp_path) == ["a", "b"]


def test_of_several_that_write_the_same_one_counts(tmp_path: Path) -> None:
    def write(number: int) -> None:
        write_atomically(tmp_path / "file", b"%d" % number * 10_000, shared=True)
        replace_atomically(tmp_path / "folder", folder_of(x=str(number), y=str(number)), shared=True)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(40)))
    found = content(tmp_path / "folder")
    assert found["x"] == found["y"] and names(tmp_path) == ["file", "folder"]
    written = (tmp_path / "file").read_bytes()
    assert written in [b"%d" % number * 10_000 for number in range(40)]
