"""What a run's record calls the models that it started from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mixrag.training import trainee


def test_the_packaged_reader_goes_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(trainee, "packaged_reader", lambda: tmp_path)
    digest = hashlib.sha256(b"weights").hexdigest()[:16]
    assert trainee.shown_adapter(tmp_path) == f"the packaged reader ({digest})"
    assert trainee.shown_adapter("mine/adapter") == "mine/adapter"
    assert trainee.shown_adapter("none") == "none" and trainee.shown_adapter(None) == "None"
