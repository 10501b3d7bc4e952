"""What a run's record calls the models that it started from."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mixrag import ModelConfig
from mixrag.generator import PromptTemplate
from mixrag.rag import RAG
from mixrag.training import run_spec as run_spec
from tiny_adapter import save_adapter
from tiny_encoder import save_encoder
from training.test_loop import run_spec as run_of


def test_the_packaged_reader_goes_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(run_spec, "packaged_reader", lambda: tmp_path)
    digest = hashlib.sha256(b"weights").hexdigest()[:16]
    assert run_spec.shown_adapter(tmp_path) == f"the packaged reader ({digest})"
    assert run_spec.shown_adapter(Path("mine/adapter")) == "mine/adapter"
    assert run_spec.shown_adapter(None) == "none"


def test_a_run_starts_from_the_reader_where_nothing_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_spec, "packaged_reader", lambda: tmp_path)
    assert run_spec.starting_adapter(ModelConfig()) == tmp_path
    assert run_spec.starting_adapter(ModelConfig(generator="other")) is None
    assert run_spec.starting_adapter(ModelConfig(adapter="none")) is None
    assert run_spec.starting_adapter(ModelConfig(adapter="mine")) == Path("mine")


def prints(rag: RAG, **models: object) -> dict[str, str]:
    """The fingerprint of a run on other models."""
    own = rag.models
    rag.models = replace(own, **models)  # type: ignore[arg-type]
    try:
        return run_spec.fingerprint(run_of(rag, Path("out")))
    finally:
        rag.models = own


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


def test_another_model_at_the_same_path_is_another_run(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    rag, place = open_rag(), tmp_path / "place"
    for role, name, first, second in (
        ("generator", "language model", tiny_folder("llama"), tiny_folder("gpt2")),
        ("adapter", "adapter to start from", save_adapter("llama", tmp_path / "a"), None),
        ("question_encoder", "question encoder", save_encoder(tmp_path / "q", seed=1), None),
    ):
        shutil.copytree(first, place)
        before = prints(rag, **{role: place})
        if second is None:
            weights = next(iter(place.rglob("*.safetensors")))
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
        else:
            shutil.rmtree(place)
            shutil.copytree(second, place)
        assert differing(before, prints(rag, **{role: place})) == [name]
        shutil.rmtree(place)


def test_the_same_model_at_another_path_is_the_same_run(
    open_rag: Callable[..., RAG],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rag = open_rag()
    shutil.copytree(tiny_folder("llama"), tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    found = [prints(rag, generator=name) for name in (tiny_folder("llama"), "m", f".{os.sep}m", tmp_path / "m")]
    assert all(each == found[0] for each in found)


def test_another_prompt_or_store_is_another_run(
    open_rag: Callable[..., RAG], encoder_folder: Path, tmp_path: Path
) -> None:
    rag = open_rag()
    before = prints(rag)
    prompt = PromptTemplate(header="other ", passage="{text} ", question="Q {question} A")
    assert differing(before, prints(rag, prompt=prompt)) == ["prompt"]
    (tmp_path / "files").mkdir()
    for number in range(6):
        (tmp_path / "files" / f"{number}.txt").write_text(f"text {number} about hens")
    with RAG.open(tmp_path / "store", create=True, models=rag.models, settings=rag.settings) as other:
        other.index([tmp_path / "files"])
        assert other.store.generation == rag.store.generation
        assert differing(before, prints(other)) == ["store"]
