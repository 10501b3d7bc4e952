import os
from pathlib import Path

import pytest

from mixrag.corpus import SUFFIXES, find_files


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")


def names(folder):
    found = find_files(folder, SUFFIXES)
    assert all(path.is_absolute() for path in found.files)
    return [path.relative_to(folder).as_posix() for path in found.files]


def test_sorted_recursive_supported_and_visible(folder):
    touch(folder, "b.txt", "a/z.MD", "a/b/c.jsonl", "x.png", ".hidden.txt", ".git/a.txt", "noname")
    assert names(folder) == ["a/b/c.jsonl", "a/z.MD", "b.txt"]


def test_relative_root(folder, monkeypatch):
    touch(folder, "a.txt")
    monkeypatch.chdir(folder)
    assert find_files(type(folder)("../files"), SUFFIXES).files == (folder / "a.txt",)


def test_linked_folder_is_followed_and_real_paths_come_first(folder, tmp_path):
    touch(tmp_path / "outside", "o.txt")
    touch(folder, "z/real.txt")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "a-link").symlink_to(folder / "z")
    assert names(folder) == ["link/o.txt", "z/real.txt"]


def test_loops_end(folder):
    touch(folder, "a/one.txt", "b/two.txt")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "a" / "self").symlink_to(folder / "a")
    (folder / "b" / "other").symlink_to(folder / "a")
    (folder / "knot.txt").symlink_to(folder / "knot.txt")
    found = find_files(folder, SUFFIXES)
    assert [path.name for path in found.files] == ["one.txt", "two.txt"]
    assert [Path(skip.path).name for skip in found.skipped] == ["knot.txt"]


def test_dangling_link_is_reported(folder):
    (folder / "gone.txt").symlink_to(folder / "nothing")
    (skip,) = find_files(folder, SUFFIXES).skipped
    assert skip.path == str(folder / "gone.txt") and "nowhere" in skip.reason


def test_unreadable_folder_is_reported(folder, monkeypatch):
    touch(folder, "shut/a.txt", "open/b.txt")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # the superuser may read everything, so the mode would not do
    found = find_files(folder, SUFFIXES)
    assert [path.name for path in found.files] == ["b.txt"]
    assert found.skipped[0].path == str(folder / "shut") and "Permission denied" in found.skipped[0].reason


def test_pipe_is_not_opened(folder):
    os.mkfifo(folder / "pipe.txt")
    assert find_files(folder, SUFFIXES).files == ()


def test_undecodable_name_is_reported(folder):
    try:
        (folder / os.fsdecode(b"\xff.txt")).write_text("text")
    except OSError:
        pytest.skip("this file system takes no such name")
    (skip,) = find_files(folder, SUFFIXES).skipped
    skip.path.encode()
    assert "UTF-8" in skip.reason
