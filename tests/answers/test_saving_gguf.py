"""A language model in a GGUF file is saved as that file, opens elsewhere, and answers with equal numbers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny_gguf
import tiny_models
from mixrag import RAG, ModelConfig
from mixrag.answers.confidence import ConfidenceMap
from mixrag.errors import ModelError, SettingError
from mixrag.generator import CausalGenerator, load_generator
from mixrag.generator.llamacpp.generator import GGUFGenerator
from mixrag.generator.names import gguf_parts, model_source
from tiny_adapter import save_adapter
from tiny_encoder import save_encoder

QUESTION, ANSWER = "What does a licence cost?", "nine crowns"


@pytest.fixture
def models(tmp_path: Path) -> ModelConfig:
    """With a store of one passage."""
    (tmp_path / "elsewhere").mkdir()
    file = tiny_gguf.save(tmp_path / "elsewhere" / "model.gguf", "llama-chat", "Q4_0")
    (tmp_path / "cod.txt").write_text("A licence to fish cod costs nine crowns.")
    found = ModelConfig(encoder=save_encoder(tmp_path / "encoder"), generator=file, dtype="float32", device="cpu")
    with RAG.open(tmp_path / "store", create=True, models=found) as rag:
        rag.index([tmp_path / "cod.txt"])
    return found


def saved(models: ModelConfig, tmp_path: Path, **changes: Any) -> tuple[Path, float]:
    """The bundle, without the model that it was made of, and log p of an answer."""
    with RAG.open(tmp_path / "store", models=replace(models, **changes)) as rag:
        expected = rag.score(QUESTION, ANSWER, k=1).log_prob
        folder = rag.save(tmp_path / "bundle")
    return folder, expected


@pytest.mark.parametrize("engine", ["torch", "llamacpp"])
def test_the_file_stays_as_it_is(engine: Any, models: ModelConfig, tmp_path: Path) -> None:
    original = Path(models.generator).read_bytes()
    folder, expected = saved(models, tmp_path, engine=engine)
    files = [each for each in (folder / "generator").iterdir() if each.is_file()]
    assert [each.name for each in files] == ["model.gguf"] and files[0].read_bytes() == original
    shutil.rmtree(tmp_path / "elsewhere")
    with RAG.load(folder, tmp_path / "store", engine=engine, dtype="float32", device="cpu") as rag:
        assert isinstance(rag.generator, CausalGenerator if engine == "torch" else GGUFGenerator)
        assert rag.score(QUESTION, ANSWER, k=1).log_prob == pytest.approx(expected, abs=1e-6)
        again = rag.save(tmp_path / "again")
    assert (again / "generator" / "model.gguf").read_bytes() == original


def test_a_confidence_goes_along_with_the_engine_that_auto_chooses(
    models: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIXRAG_ENGINE", raising=False)
    with RAG.open(tmp_path / "store", models=replace(models, engine="auto", dtype="auto")) as rag:
        assert rag.info().engine == "llamacpp, weights as in the file"
        rag.calibration = ConfidenceMap("temperature", models=rag.models_digest)
        folder = rag.save(tmp_path / "bundle")
    with RAG.load(folder, tmp_path / "store", engine="auto", device="cpu") as rag:
        assert rag.info().engine == "llamacpp, weights as in the file"
        assert rag.calibration is not None
        assert rag.calibration.mismatch(rag.settings, rag.models_digest) is None


@pytest.mark.parametrize("engine", ["torch", "llamacpp"])
def test_a_tokenizer_of_its_own_goes_along(engine: Any, models: ModelConfig, tmp_path: Path) -> None:
    _, tokenizer = tiny_models.build("llama-chat")
    tokenizer.chat_template = "{% for m in messages %}: {{ m['content'] }}{% endfor %} ="
    folder, expected = saved(models, tmp_path, engine=engine, tokenizer=tokenizer)
    shutil.rmtree(tmp_path / "elsewhere")
    with RAG.load(folder, tmp_path / "store", engine=engine, dtype="float32", device="cpu") as rag:
        assert rag.score(QUESTION, ANSWER, k=1).log_prob == pytest.approx(expected, abs=1e-6)
        prompt = rag.condition(QUESTION, k=1).components[0].prompt
        assert rag.generator.text(prompt.tokens).endswith(" =")


def test_all_parts_of_a_model_are_saved(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for each in parts:
        each.write_bytes(b"")
    assert gguf_parts(parts[0]) == parts
    assert model_source(tmp_path) == (parts[0], None)
    assert gguf_parts(tmp_path / "model.gguf") == [tmp_path / "model.gguf"]


def test_a_folder_of_several_models_is_one_line(models: ModelConfig, tmp_path: Path) -> None:
    folder = Path(models.generator).parent
    assert load_generator(folder, engine="llamacpp").name == str(folder)
    shutil.copyfile(folder / "model.gguf", folder / "other.gguf")
    with pytest.raises(
        ModelError, match=r"a folder of one GGUF file at .*found model.gguf and other.gguf; name the"
    ):
        load_generator(folder, engine="llamacpp")


def test_an_adapter_is_added_by_torch_and_by_nothing_else(models: ModelConfig, tmp_path: Path) -> None:
    adapter = save_adapter("llama-chat", tmp_path / "adapter")
    plain, adapted = (load_generator(models.generator, adapter=each, device="cpu") for each in ("none", adapter))
    prompts = [each.prompt(QUESTION, [], 8) for each in (plain, adapted)]
    tokens = plain.answer_tokens(ANSWER)
    one, other = (
        each.log_likelihood([p], tokens).sum() for each, p in zip((plain, adapted), prompts, strict=True)
    )
    assert abs(float(one - other)) > 1e-3
    with pytest.raises(SettingError, match=r"model\.gguf with an adapter; give adapter none, or engine torch"):
        load_generator(models.generator, adapter=adapter, engine="llamacpp")
    with pytest.raises(
        SettingError, match=r"no adapter with a model behind a server; found the adapter .*; load it"
    ):
        load_generator("llamacpp:http://127.0.0.1:9/v1", adapter=adapter)
