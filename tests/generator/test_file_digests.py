"""Digests that are remembered are those of the files as they are now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mixrag.generator import file_digests
from mixrag.generator.file_digests import remembered_digests
from mixrag.utils.hashing import file_digest


def test_another_content_under_the_same_time_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    file, found = tmp_path / "weights", list[str]()
    for content in (b"first", b"other"):
        file.unlink(missing_ok=True)
        file.write_bytes(content)
        os.utime(file, (1, 1))
        found += remembered_digests([file])
        assert found[-1] == file_digest(file)
    assert found[0] != found[1]


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    file.write_bytes(b"first")
    found = remembered_digests([file])
    monkeypatch.setattr(file_digests, "file_digest", lambda _: "read again")
    assert remembered_digests([file]) == found
