"""Many texts at once give the vectors that the model gives: exactly in float32, within a bound in bfloat16."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Pooling,
    StaticEmbedding,
    Transformer,
)

from mixrag.retrieval.encoders import batch as bulk
from mixrag.retrieval.encoders.batch import buckets, rounded, unsupported, vectors_of
from tiny_encoder import save_encoder

DEMO = Path(__file__).parents[2] / "demo"
POOLING = ["mean", "cls", "max", "lasttoken", "weightedmean"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("bulk"), seed=1)


@pytest.fixture(autouse=True)
def many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several windows, several batches in each, and texts longer than a batch."""
    monkeypatch.setattr(bulk, "TOKENS", {"cpu": 40})
    monkeypatch.setattr(bulk, "WINDOW", 11)


def texts() -> list[str]:
    """From no word to more than the model reads, in no order."""
    words = ["cod", "eel", "winter", "of", "licence"]
    drawn = random.Random(0)
    return [" ".join(drawn.choices(words, k=drawn.choice([0, 1, 2, 3, 5, 8, 40]))) for _ in range(30)]


def model_with(folder: Path, pooling: str, **options: Any) -> SentenceTransformer:
    modules = [Transformer(str(folder / "base")), Pooling(16, pooling), Dense(16, 8), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu", **options).eval()


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


@given(st.lists(st.integers(0, 60)), st.integers(1, 100))
def test_every_text_is_in_one_batch_and_no_batch_is_too_large(lengths: list[int], tokens: int) -> None:
    found = list(buckets(lengths, tokens))
    assert sorted(position for batch in found for position in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[position] for position in batch) <= tokens
    assert [lengths[p] for batch in found for p in batch] == sorted(lengths, reverse=True)


@pytest.mark.parametrize("pooling", POOLING)
def test_in_float32_the_vectors_are_those_of_encode(folder: Path, pooling: str) -> None:
    model = model_with(folder.parent, pooling)
    found = vectors_of(model, texts(), None, "document").numpy()
    assert found.shape == (30, 8) and found.dtype == np.float32
    np.testing.assert_allclose(found, model.encode(texts()), atol=1e-5)


def test_prompts_and_a_cut_dimension_are_kept(folder: Path) -> None:
    model = model_with(folder.parent, "mean", prompts={"document": "read this: "}, truncate_dim=5)
    model[1].include_prompt = False
    expected = model.encode_document(texts())
    found = vectors_of(model, texts(), "read this: ", "document").numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    without = vectors_of(model, texts(), None, "document").numpy()
    assert np.abs(without - expected).max() > 1e-3


def test_nothing_gives_no_vectors(folder: Path) -> None:
    assert vectors_of(SentenceTransformer(str(folder), device="cpu"), [], None, "document").shape == (0, 16)


@pytest.mark.parametrize("pooling", POOLING)
def test_in_bfloat16_the_vectors_are_nearly_those(folder: Path, pooling: str) -> None:
    model = model_with(folder.parent, pooling)
    found = vectors_of(rounded(model), texts(), None, "document").numpy()
    expected = model.encode(texts())
    assert cosine(found, expected).min() >= 0.99
    assert np.abs(found - expected).max() > 1e-6, "nothing was rounded"


def test_the_rounded_copy_leaves_the_model_as_it_is(folder: Path) -> None:
    model = SentenceTransformer(str(folder), device="cpu").eval()
    before, attention = model.encode(texts()), model[0].model.config._attn_implementation
    copied = rounded(model)
    vectors_of(copied, texts(), None, "document")
    assert {weight.dtype for weight in copied[0].model.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert all(weight.requires_grad for weight in model.parameters())
    assert model[0].model.config._attn_implementation == attention
    np.testing.assert_array_equal(model.encode(texts()), before)


def test_what_is_pooled_is_float32(folder: Path) -> None:
    """The mean over the tokens and its length are not rounded: vectors of length one have length one."""
    model = rounded(SentenceTransformer(str(folder), device="cpu"))
    found = vectors_of(model, texts(), None, "document")
    torch.testing.assert_close(found.norm(dim=1), torch.ones(30), atol=1e-6, rtol=0)


def test_other_models_are_named_unsupported(folder: Path) -> None:
    model = SentenceTransformer(str(folder), device="cpu")
    assert unsupported(model) is None and unsupported(model_with(folder.parent, "mean")) is None
    static = SentenceTransformer(modules=[StaticEmbedding(model.tokenizer, embedding_dim=4)], device="cpu")
    assert "StaticEmbedding" in str(unsupported(static))
    assert "pooling" in str(unsupported(SentenceTransformer(modules=[model[0]], device="cpu")))
    model.tokenizer.padding_side = "left"
    assert "right" in str(unsupported(model))


@pytest.mark.slow
def test_the_packaged_encoder_in_bfloat16_finds_what_it_finds_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    from encoding import cosine, overlap, passages
    from mixrag.pairs.pairs import read_pairs
    from mixrag.retrieval.encoders import load_encoder

    whole, half = load_encoder(device="cpu"), load_encoder(device="cpu", dtype="bfloat16")
    given = passages()
    expected, found = whole.encode_passages(given), half.encode_passages(given)
    np.testing.assert_allclose(expected, whole.passage_model.encode(given), atol=1e-5)
    assert cosine(expected, found).min() >= 0.999
    questions = whole.encode_questions([pair.question for pair in read_pairs([DEMO / "pairs.jsonl"]).pairs])
    np.testing.assert_array_equal(
        half.encode_questions(["a cod", "an eel"]), whole.encode_questions(["a cod", "an eel"])
    )
    assert overlap(questions @ expected.T, questions @ found.T) >= 0.97
