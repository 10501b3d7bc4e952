"""A store has vectors of one number format: auto keeps to it on any processor, and another one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixrag import RAG, ModelConfig
from mixrag.errors import EncoderMismatchError
from mixrag.retrieval.encoders import SentenceEncoder, reference_of
from mixrag.training.trainable_prior import TrainablePrior
from tiny_encoder import save_encoder

Opened = Callable[..., RAG]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens the one store; ``native``: whether the processor multiplies bfloat16 itself."""
    folder = save_encoder(tmp_path / "encoder")

    def open_rag(native: bool, dtype: str = "auto") -> RAG:
        monkeypatch.setattr("mixrag.retrieval.encoders.loading.native_bfloat16", lambda: native)
        models = ModelConfig(encoder=folder, device="cpu", encoder_dtype=dtype)
        return RAG.open(tmp_path / "store", create=True, models=models)

    return open_rag


def file(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize("native", [True, False])
def test_a_store_stays_in_its_format_on_another_processor(at: Opened, tmp_path: Path, native: bool) -> None:
    cod, eel = (file(tmp_path, f"{name}.txt", f"a licence to fish {name}") for name in ("cod", "eel"))
    with at(native) as rag:
        assert rag.index([cod]).embedded == 1
    with at(not native) as rag:
        assert rag.index([cod]).embedded == 0
        assert rag.index([cod, eel]).embedded == 1
        encoder = reference_of(rag.encoder)
        assert isinstance(encoder, SentenceEncoder) and (encoder.dtype == "bfloat16") is native
        _, vectors = rag.store.vectors()
        texts = [rag.encoder.passage_text(name, f"a licence to fish {name}") for name in ("cod", "eel")]
        expected = rag.encoder.encode_passages(texts)
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
        assert len(rag.passages("cod").passages) == 2


@pytest.mark.parametrize(("first", "second"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_formats_are_never_mixed(at: Opened, tmp_path: Path, first: str, second: str) -> None:
    cod = file(tmp_path, "cod.txt", "a licence to fish cod")
    with at(True, first) as rag:
        rag.index([cod])
    with at(True, second) as rag:
        with pytest.raises(EncoderMismatchError, match="bfloat16"):
            rag.index([cod])
        with pytest.raises(EncoderMismatchError, match="--re-embed"):
            rag.passages("cod")
        assert rag.index([], reembed=True).embedded == 1
        assert len(rag.passages("cod").passages) == 1
    with at(first == "bfloat16") as rag:
        encoder = reference_of(rag.encoder)
        assert isinstance(encoder, SentenceEncoder) and encoder.dtype == second


def test_an_encoder_in_training_encodes_in_float32(at: Opened, tmp_path: Path) -> None:
    with at(True, "bfloat16") as rag:
        rag.index([file(tmp_path, "cod.txt", "a licence to fish cod")])
        assert isinstance(rag.encoder, SentenceEncoder)
        trained = TrainablePrior(rag.store, rag.encoder, rag.settings, frozenset({"encoder"}))
        assert trained.encoder.dtype == "float32"
        asked = TrainablePrior(rag.store, rag.encoder, rag.settings, frozenset({"question-encoder"}))
        assert asked.encoder.fingerprint == rag.encoder.fingerprint
