"""An encoder without sentence-transformers gives its vectors, under its fingerprint."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from mixrag import RAG, ModelConfig, Settings
from mixrag.errors import EncoderMismatchError
from mixrag.retrieval.encoders import LightEncoder, SentenceEncoder, configured_encoder, load_encoder, reference_of
from mixrag.retrieval.encoders import light as module
from tiny_encoder import save_encoder

TEXTS = ["Who issues the licence?", "x", "", "A fee of 50 crowns, " * 20, "[SEP] Zoë\n\nwrote [CLS]"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def twice(folder: Path, **fields: Any) -> tuple[Any, Any]:
    """The encoder of a folder as it is loaded first, and as it is for a store that has its vectors."""
    models = ModelConfig(encoder=folder, **{"encoder_dtype": "float32", "device": "cpu", **fields})
    first = configured_encoder(models, None)
    return first, configured_encoder(models, first.fingerprint)


def variant(
    folder: Path, *, pooling: str = "mean", normalised: bool = True, prompts: Any = None, dense: bool = False
) -> Path:
    base = save_encoder(folder / "plain", seed=4).parent / "base"
    modules: list[Any] = [Transformer(str(base)), Pooling(16, pooling)]
    modules += [Dense(16, 8)] if dense else []
    modules += [Normalize()] if normalised else []
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("prompts", [None, {"query": "query: ", "document": "passage: "}])
def test_vectors_and_fingerprint_are_those_of_the_reference(
    pooling: str, normalised: bool, prompts: Any, tmp_path: Path
) -> None:
    reference, light = twice(variant(tmp_path, pooling=pooling, normalised=normalised, prompts=prompts))
    assert isinstance(reference, SentenceEncoder) and isinstance(light, LightEncoder)
    assert (light.name, light.fingerprint, light.temperature) == (
        reference.name,
        reference.fingerprint,
        reference.temperature,
    )
    close = {"rtol": 0, "atol": module.TOLERANCE}
    np.testing.assert_allclose(light.encode_questions(TEXTS), reference.encode_questions(TEXTS), **close)
    np.testing.assert_allclose(light.encode_passages(TEXTS), reference.encode_passages(TEXTS), **close)
    assert light.encode_questions([]).shape == (0, 16)
    assert light.passage_text("A title", "text") == reference.passage_text("A title", "text")
    assert light.tokens.name == reference.tokens.name
    assert light.pieces("Who's who?") == reference.pieces("Who's who?")
    assert reference_of(light).fingerprint == light.fingerprint
    assert reference_of(reference) is reference


def test_passages_in_bfloat16_are_the_references(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    reference, light = twice(folder, encoder_dtype="bfloat16")
    assert isinstance(light, LightEncoder) and light.name == reference.name
    assert (light.encode_passages(TEXTS) == reference.encode_passages(TEXTS)).all()
    models = ModelConfig(encoder=folder, device="cpu")
    both = [
        configured_encoder(models, replace(reference, dtype=each).fingerprint) for each in ("float32", "bfloat16")
    ]
    assert [each.fingerprint for each in both] == [
        replace(reference, dtype=each).fingerprint for each in ("float32", "bfloat16")
    ]


def test_what_is_not_of_the_simple_kind_is_the_reference(tmp_path: Path) -> None:
    _, found = twice(variant(tmp_path / "dense", dense=True))
    assert isinstance(found, SentenceEncoder)
    _, found = twice(variant(tmp_path / "max", pooling="max"))
    assert isinstance(found, SentenceEncoder)
    folder = save_encoder(tmp_path / "pair")
    _, found = twice(folder, question_encoder=save_encoder(tmp_path / "question", seed=1))
    assert isinstance(found, SentenceEncoder)
    _, found = twice(folder, titles=True)
    assert isinstance(found, SentenceEncoder)


def test_other_vectors_and_other_files_are_not_taken_for_it(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "one")
    models = ModelConfig(encoder=folder, encoder_dtype="float32", device="cpu")
    first = configured_encoder(models, None)
    assert isinstance(configured_encoder(models, "of others"), SentenceEncoder)
    half = replace(first, dtype="bfloat16") if isinstance(first, SentenceEncoder) else None
    assert half is not None and isinstance(configured_encoder(models, half.fingerprint), SentenceEncoder)
    other = save_encoder(tmp_path / "two", seed=7)
    shutil.copyfile(other / "model.safetensors", folder / "model.safetensors")
    found = configured_encoder(models, first.fingerprint)
    assert (
        isinstance(found, SentenceEncoder) and found.fingerprint == load_encoder(other, device="cpu").fingerprint
    )


def test_one_whose_vectors_differ_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    _, found = twice(save_encoder(tmp_path))
    assert isinstance(found, SentenceEncoder)


def test_a_damaged_entry_is_made_again(tmp_path: Path, own_cache: Path) -> None:
    folder = save_encoder(tmp_path / "model")
    twice(folder)
    (entry,) = own_cache.glob("encoder-*")
    (entry / "serialised.json").write_text("{}")
    first, second = twice(folder)
    assert isinstance(first, SentenceEncoder) and isinstance(second, LightEncoder)


def test_a_store_is_asked_with_it_and_written_by_the_reference(tmp_path: Path) -> None:
    models = ModelConfig(encoder=save_encoder(tmp_path / "encoder"), device="cpu")
    with RAG.open(tmp_path / "s", create=True, models=models) as rag:
        rag.add([{"id": "cod", "text": "A licence to fish cod costs nine crowns."}])
        expected = rag.passages("What does a licence cost?")
        assert isinstance(rag.encoder, SentenceEncoder)
    with RAG.open(tmp_path / "s", models=models, settings=Settings(k=1)) as rag:
        found = rag.passages("What does a licence cost?")
        encoder = rag.encoder
        assert isinstance(encoder, LightEncoder) and "reference" not in vars(encoder)
        assert found.passages[0].id == expected.passages[0].id
        rag.add([{"id": "hen", "text": "Hens lay eggs."}])
        assert "reference" in vars(encoder), "vectors of a store are those of the reference"
    other = ModelConfig(encoder=save_encoder(tmp_path / "other", seed=9), device="cpu")
    with RAG.open(tmp_path / "s", models=other) as rag, pytest.raises(EncoderMismatchError):
        rag.passages("What does a licence cost?")
