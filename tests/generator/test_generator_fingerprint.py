"""What a language model is known by on other machines: content, not place, and all that changes its numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mixrag.config.bundle import NO_ADAPTER
from mixrag.config.default_models import default_generator, packaged_reader
from mixrag.config.model_config import ModelConfig
from mixrag.errors import SettingError
from mixrag.generator import PromptTemplate
from mixrag.generator.fingerprint import generator_fingerprint
from mixrag.generator.loading import default_prompt


def folder(path: Path, content: str) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_text(content)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return folder(tmp_path / "model", "weights")


def of(model: Any, **changes: Any) -> str:
    return generator_fingerprint(ModelConfig(generator=model, **changes))


def test_equal_files_are_one_model_wherever_they_are(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "elsewhere" / "copy")
    assert of(model) == of(tmp_path / "elsewhere" / "copy") == of(str(model)) == of(model, adapter=NO_ADAPTER)
    assert of(model) != of(folder(tmp_path / "other", "other weights"))
    assert of("owner/name") != of("owner/other")


def test_what_changes_likelihoods_changes_it(model: Path, tmp_path: Path) -> None:
    adapter = folder(tmp_path / "adapter", "difference")
    changes: list[dict[str, Any]] = [
        {"adapter": adapter},
        {"prompt": PromptTemplate(passage="Read: {text}")},
        {"dtype": "int8"},
        {"dtype": "int8", "engine": "openvino"},
        {"tokenizer": "another"},
        {"revision": "main"},
        {"template_args": {"thinking": False}},
        {"engine_args": {"quantization": "fp8"}},
    ]
    assert len({of(model), *(of(model, **each) for each in changes)}) == len(changes) + 1


@pytest.mark.parametrize(
    "changes", [{"dtype": "bfloat16"}, {"dtype": "float32"}, {"encoder": "another"}, {"prefix_cache": 0}], ids=str
)
def test_what_does_not_change_them_but_for_rounding_does_not(model: Path, changes: dict[str, Any]) -> None:
    assert of(model, **changes) == of(model)


def test_the_packaged_model_is_known_by_its_files() -> None:
    """Where it is the default on one machine, and named on another."""
    reader = packaged_reader()
    named = {"adapter": reader, "prompt": default_prompt(None, None)} if reader else {}
    assert of(None) == of(default_generator(), **named)
    assert of(None, adapter=NO_ADAPTER) == of(default_generator())


def sized(path: Path, middle: bytes) -> Path:
    """A model whose first and last MiB are those of every other."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    end = bytes(2**20)
    (path / "model.safetensors").write_bytes(end + middle + end)
    return path


def test_files_that_differ_in_the_middle_alone_are_other_models(tmp_path: Path) -> None:
    one, other = sized(tmp_path / "one", b"a"), sized(tmp_path / "other", b"b")
    assert of(one) != of(other) and of(one, adapter=one) != of(one, adapter=other)
    assert of(one) == of(sized(tmp_path / "copy", b"a"))
    (other / "model.safetensors").write_bytes((one / "model.safetensors").read_bytes())
    assert of(one) == of(other)


def test_all_parts_of_a_gguf_model_count_and_its_folder_is_the_model(tmp_path: Path) -> None:
    parts = [tmp_path / "split" / f"model-0000{number}-of-00002.gguf" for number in (1, 2)]
    parts[0].parent.mkdir()
    for part in parts:
        part.write_bytes(b"GGUF")
    before = of(parts[0])
    assert before == of(parts[0].parent)
    parts[1].write_bytes(b"other")
    assert of(parts[0]) == of(parts[0].parent) != before
    (parts[0].parent / "tokenizer_config.json").write_text("{}")
    assert of(parts[0].parent) != of(parts[0])  # it is read with the tokenizer beside it


def test_arguments_of_the_chat_template_count_wherever_they_are_given(model: Path) -> None:
    given = {"thinking": False}
    assert of(model, template_args=given) == of(model, prompt=PromptTemplate(template_args=given))


@pytest.mark.parametrize(
    "address", ["http://localhost:8000/v1", "m@http://127.0.0.2:8000", "vllm:m", "http://[::1]"]
)
def test_an_address_of_this_machine_says_nothing_of_a_model_on_another(address: str) -> None:
    with pytest.raises(SettingError, match="the same for all owners"):
        of(address)
    assert of("m@http://10.0.0.1:8000") != of("m@http://10.0.0.2:8000")
