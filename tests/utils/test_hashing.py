"""A model on this machine is known by its files, another one by its name."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from mixrag.utils.hashing import file_digest, model_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(3 * 2**20))
    return folder


def test_a_copy_is_the_same_model_and_what_mixrag_writes_is_no_part_of_it(model: Path, tmp_path: Path) -> None:
    before = model_digest(model)
    moved = shutil.copytree(model, tmp_path / "elsewhere")
    for name in ("mixrag.json", "confidence.json", "run.json", "README.md"):
        (moved / name).write_text("{}")
    assert model_digest(moved) == before == model_digest(str(moved))


@pytest.mark.parametrize("place", [0, 3 * 2**20 - 1])
def test_other_weights_are_another_model(model: Path, place: int) -> None:
    before = model_digest(model)
    with (model / "model.safetensors").open("r+b") as stream:
        stream.seek(place)
        stream.write(b"\1")
    assert model_digest(model) != before


def test_names_stand_for_themselves() -> None:
    assert model_digest("owner/name") == "owner/name" and model_digest(None) == "None"


def test_the_digest_of_a_file_is_that_of_all_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 10**6)
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc" * 10**6).hexdigest()
