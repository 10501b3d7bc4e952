"""What ``engine`` auto chooses, from what is known before a model is loaded."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mixrag import ModelConfig
from mixrag.config import engine_choice
from mixrag.config.engine_choice import engine_in_words, engine_of, runs_with
from mixrag.config.model_config import models_digest
from mixrag.errors import SettingError
from mixrag.generator import loading


@pytest.fixture(autouse=True)
def everything_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with all packages, whatever the machine is."""
    monkeypatch.delenv("MIXRAG_ENGINE", raising=False)
    monkeypatch.setattr(engine_choice, "installed", lambda package: True)
    monkeypatch.setattr(engine_choice, "_found", {})
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def auto(**fields: Any) -> ModelConfig:
    return ModelConfig(engine="auto", **fields)


def folder(path: Path, *architectures: str) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": list(architectures)}))
    return path


def test_openvino_runs_causal_models_on_processors(tmp_path: Path) -> None:
    assert engine_of(auto()) == "openvino"
    for name in ("language-model", "both", "HuggingFaceTB/SmolLM2-135M"):
        assert engine_of(auto(generator=name)) == "openvino"
    assert engine_of(auto(generator=folder(tmp_path / "a", "LlamaForCausalLM"), device="cpu")) == "openvino"
    assert engine_of(auto(generator=folder(tmp_path / "b", "GPT2LMHeadModel"))) == "openvino"
    assert engine_of(auto(generator=folder(tmp_path / "c"))) == "openvino", "it does not say"


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"dtype": "int8"},
        {"device": "cuda"},
        {"device_map": "auto"},
        {"generator": "extractive"},
        {"generator": "http://127.0.0.1:1/v1"},
        {"generator": "ollama:llama3"},
        {"generator": torch.nn.Linear(1, 1)},
    ],
)
def test_torch_runs_all_else(fields: dict[str, Any]) -> None:
    assert engine_of(auto(**fields)) == "torch"


def test_torch_runs_models_of_other_kinds(tmp_path: Path) -> None:
    for name in ("T5ForConditionalGeneration", "BertForQuestionAnswering"):
        assert engine_of(auto(generator=folder(tmp_path / name, name))) == "torch"


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "AMD64"])
def test_it_depends_on_the_machine(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert engine_of(auto()) == "openvino"
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert engine_of(auto()) == "torch"
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert engine_of(auto()) == "torch"
    assert engine_of(auto(device="cpu")) == "openvino", "the processor was asked for"


def test_it_depends_on_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    named = auto(generator=str(file))
    assert engine_of(named) == "llamacpp"
    assert engine_of(auto(generator=str(file), adapter=tmp_path)) == "openvino", "it has no adapters"
    monkeypatch.setattr(engine_choice, "installed", lambda package: package == "openvino")
    assert engine_of(named) == "openvino"
    monkeypatch.setattr(engine_choice, "installed", lambda package: False)
    assert engine_of(named) == engine_of(auto()) == "torch"


def test_what_is_named_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "openvino", "llamacpp", "vllm"):
        assert engine_of(ModelConfig(engine=name)) == name
    monkeypatch.setenv("MIXRAG_ENGINE", "torch")
    assert engine_of(auto()) == "torch" and engine_of(ModelConfig(engine="openvino")) == "openvino"
    monkeypatch.setenv("MIXRAG_ENGINE", "onnx")
    with pytest.raises(SettingError, match="an engine in MIXRAG_ENGINE"):
        engine_of(auto())


def test_what_turned_out_otherwise_is_remembered() -> None:
    models = auto(generator="some/model")
    assert models_digest(models) == models_digest(ModelConfig(generator="some/model", engine="openvino"))
    runs_with(models, "torch")
    assert engine_of(models) == "torch" and engine_of(auto(generator="other/model")) == "openvino"
    assert models_digest(models) == models_digest(ModelConfig(generator="some/model", engine="torch"))


def test_a_digest_is_that_of_the_engine_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = models_digest(auto())
    assert chosen == models_digest(ModelConfig(engine="openvino")) != models_digest(ModelConfig(engine="torch"))
    monkeypatch.setattr(engine_choice, "installed", lambda package: False)
    assert models_digest(auto()) == models_digest(ModelConfig(engine="torch"))


def test_a_digest_in_int8_is_that_of_one_engine() -> None:
    by_openvino = models_digest(ModelConfig(engine="openvino"))
    assert models_digest(ModelConfig(engine="openvino", dtype="int8")) == by_openvino
    by_torch = models_digest(ModelConfig(engine="torch", dtype="int8"))
    assert len({by_torch, by_openvino, models_digest(ModelConfig(engine="torch"))}) == 3


def test_a_folder_of_a_gguf_file_is_that_file(tmp_path: Path) -> None:
    saved = tmp_path / "generator"
    saved.mkdir()
    (saved / "model.gguf").write_bytes(b"GGUF")
    assert engine_of(auto(generator=str(saved))) == engine_of(auto(generator=saved / "model.gguf")) == "llamacpp"
    (saved / "config.json").write_text(json.dumps({"architectures": ["T5ForConditionalGeneration"]}))
    assert engine_of(auto(generator=saved)) == "torch", "that file counts, as where it is loaded"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("http://h:1/v1", "a server"),
        ("extractive", "torch"),
        (torch.nn.Linear(1, 1), "torch"),
        (SimpleNamespace(engine="llamacpp"), "llamacpp"),
        (SimpleNamespace(), "SimpleNamespace"),
    ],
)
def test_what_no_engine_runs_is_said_whatever_is_named(given: Any, words: str) -> None:
    for engine in ("torch", "openvino", "auto"):
        models = ModelConfig(engine=engine, generator=given)
        assert engine_in_words(models) == words and engine_of(models) == "torch"


def test_the_engine_of_the_environment_counts_as_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXRAG_ENGINE", "openvino")
    asked = list[str]()

    def load(*_: Any, engine: str, **__: Any) -> Any:
        asked.append(engine)
        return SimpleNamespace(engine="torch")

    monkeypatch.setattr(loading, "load_generator", load)
    loading.load_configured(auto())
    loading.load_configured(auto(generator="extractive"))
    loading.load_configured(ModelConfig(engine="openvino", generator="extractive"))
    monkeypatch.setenv("MIXRAG_ENGINE", "auto")
    loading.load_configured(auto())
    assert asked == ["openvino", "torch", "openvino", "auto"]


def test_it_is_said_in_words() -> None:
    assert engine_in_words(auto()) == "openvino, weights int8"
    assert engine_in_words(ModelConfig(engine="torch")) == "torch"
    assert engine_in_words(auto(dtype="float32")) == "torch, weights float32"
    assert engine_in_words(ModelConfig(engine="llamacpp")) == "llamacpp, weights as in the file"
