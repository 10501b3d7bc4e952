"""What a run's record calls the models that it started from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mixrag import Models
from mixrag.training import trainee


def test_the_packaged_reader_goes_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(trainee, "packaged_reader", lambda: tmp_path)
    digest = hashlib.sha256(b"weights").hexdigest()[:16]
    assert trainee.shown_adapter(tmp_path) == f"the packaged reader ({digest})"
    assert trainee.shown_adapter(Path("mine/adapter")) == "mine/adapter"
    assert trainee.shown_adapter(None) == "none"


def test_a_run_starts_from_the_reader_where_nothing_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainee, "packaged_reader", lambda: tmp_path)
    assert trainee.starting_adapter(Models()) == tmp_path
    assert trainee.starting_adapter(Models(generator="other")) is None
    assert trainee.starting_adapter(Models(adapter="none")) is None
    assert trainee.starting_adapter(Models(adapter="mine")) == Path("mine")
