"""What a file of weights holds, and what memory there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mixrag.utils import memory
from mixrag.utils.memory import available_memory, weights_in


def test_weights_are_counted_by_the_header(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.bfloat16)}, file, {"format": "pt"})
    assert weights_in(file) == 17
    file.write_bytes(b"nothing of the kind")
    assert weights_in(file) == weights_in(tmp_path / "none") == 0


def test_memory_is_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "meminfo"
    said.write_text("MemTotal: 900 kB\nMemAvailable:  700 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", said)
    assert available_memory() == 700 * 1024
    said.write_text("MemAvailable: many\n")
    assert available_memory() is None
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert available_memory() is None
