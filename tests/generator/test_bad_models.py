"""Models, files and servers that cannot be used: one line each, and nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

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
        patch.setattr(gguf.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
        text = one_line(ModelError, lambda: load_generator(file, device="cpu"))
    assert "0 MB free in " in text and "(--engine llamacpp runs the file as it is); set MIXRAG_CACHE" in text
    assert not [each for each in cache.iterdir() if each.is_dir()]
    assert load_generator(file, device="cpu").name == str(file)


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
