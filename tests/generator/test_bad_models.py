"""Models, files and servers that cannot be used: one line each, and nothing left behind."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gguf import GGUFReader

import tiny_gguf
import tiny_models
from fake_server import FakeServer, random_model
from mixrag.corpus import Passage
from mixrag.errors import MixragError, ModelError, QuestionError
from mixrag.generator import gguf, load_generator
from mixrag.generator.remote.connection import connect

NAME = "model@http://server.test/v1"


def one_line(error: type[MixragError], act: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text and text.startswith("expected ") and "; found " in text
    return text


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def behind_a_server(context: int) -> Any:
    _, tokenizer = tiny_models.build("llama-chat")
    server = FakeServer(
        random_model(len(tokenizer)),
        frozenset({tokenizer.eos_token_id}),
        tokenize=lambda text: tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids,
        detokenize=tokenizer.decode,
        context=context,
    )
    return connect(NAME, tokenizer=tokenizer, transport=server.transport())


def test_a_server_whose_context_is_too_short() -> None:
    generator = behind_a_server(200)
    passage = Passage("long", "Cod is nine crowns. " * 40, "/long.txt", "Long", 0, 800)
    prompt = generator.prompt("What does cod cost?", [passage], 10)
    assert len(prompt.tokens) + 10 <= generator.context_size < 200, "the passage is shortened, the question never"
    assert generator.text(prompt.question).count("What does cod cost?") == 1
    text = one_line(QuestionError, lambda: generator.prompt("What does cod cost? " * 60, [passage], 10))
    assert str(generator.context_size) in text


def test_no_disk_for_the_floats_of_a_gguf(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tiny_gguf.save(tmp_path / "model.gguf")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
        text = one_line(ModelError, lambda: load_generator(file, device="cpu"))
    assert "expected disk space of 0.0 GB to turn the weights of " in text and "found 0.0 GB free in " in text
    assert "run: pip install 'mixrag[gguf]', and give --engine llamacpp" in text and "or set MIXRAG_CACHE" in text
    assert not [each for each in cache.iterdir() if each.is_dir()]
    assert load_generator(file, device="cpu").name == str(file)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_no_memory_for_the_floats_of_a_gguf(
    engine: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny_gguf.save(tmp_path / "model.gguf", format="Q8_0")
    needed = 4 * sum(int(each.n_elements) for each in GGUFReader(file).tensors)
    with monkeypatch.context() as patch:
        patch.setattr(gguf, "available_memory", lambda: needed - 1)
        patch.setattr(gguf, "_convert_gguf", lambda *_: pytest.fail("loaded"))
        text = one_line(ModelError, lambda: load_generator(file, engine=engine, device="cpu"))
    assert f"expected memory of 0.0 GB to turn the weights of {str(file)!r} into floats" in text
    assert text.endswith("give --engine llamacpp, which runs the file as it is")
    assert not [each for each in cache.iterdir() if each.is_dir()]
    for free in (needed, None):  # enough, and a system that does not say
        monkeypatch.setattr(gguf, "available_memory", lambda free=free: free)
        assert gguf._check_room(file, cache) == needed


def test_a_gguf_that_becomes_larger_is_announced_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tiny_gguf.save(tmp_path / "model.gguf")
    caplog.set_level(logging.INFO, "mixrag.generator")
    monkeypatch.setattr(gguf, "weights_in_gguf", lambda _: 125_000_000)
    monkeypatch.setattr(gguf, "available_memory", lambda: None)
    for _ in range(2):
        load_generator(file, device="cpu")
    (found,) = [each for each in caplog.records if "into floats" in each.getMessage()]
    assert found.levelno == logging.WARNING and str(file) in found.getMessage()
    assert "0.5 GB in the cache folder" in found.getMessage() and "--engine llamacpp" in found.getMessage()
    monkeypatch.setattr(gguf, "default_generator", lambda: file)
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "other"))
    load_generator(file, device="cpu")
    last = [each for each in caplog.records if "into floats" in each.getMessage()][-1]
    assert last is not found and last.levelno == logging.INFO, "nobody named the packaged model"


@pytest.mark.parametrize("engine", ["openvino", "torch", "auto"])
def test_a_folder_of_another_openvino_is_no_model(engine: str, cache: Path, tmp_path: Path) -> None:
    folder = tiny_models.save("llama-chat", tmp_path / "converted")
    (folder / "model.safetensors").unlink()
    (folder / "openvino_model.xml").write_text('<?xml version="1.0"?><net name="Model0" version="7"></net>')
    (folder / "openvino_model.bin").write_bytes(bytes(100))
    text = one_line(ModelError, lambda: load_generator(folder, engine=engine, device="cpu"))
    assert str(folder) in text and "give a model folder, a GGUF file or a hub name" in text
    assert not [each for each in cache.glob("openvino-*") if each.is_dir()]


def test_a_template_that_leaves_the_assistants_message_out(tmp_path: Path) -> None:
    model, tokenizer = tiny_models.build("llama-chat")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}<|im_start|>user\n{{ m['content'] }}<|im_end|>\n"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    found = load_generator(model, tokenizer=tokenizer)
    assert found.prompt_text(found.prompt("Who?", (), 4)).endswith("<|im_start|>assistant\n")
    assert tokenizer.eos_token_id in found.stop_tokens


def test_a_copied_folder_that_lost_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "generator"
    folder.mkdir()
    file = tiny_gguf.save(folder / "model.gguf")
    shutil.copyfile(file, tmp_path / "whole.gguf")
    file.unlink()
    assert str(folder) in one_line(ModelError, lambda: load_generator(folder, engine="torch", device="cpu"))
