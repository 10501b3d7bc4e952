"""Encoders: shared or paired, fingerprinted, refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from mixrag import load_encoder
from mixrag.encoder import COSINE_TEMPERATURE
from mixrag.errors import ModelError
from tiny_encoder import save_encoder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {
        "one": save_encoder(root / "one", seed=1),
        "same": save_encoder(root / "same", seed=1),
        "two": save_encoder(root / "two", seed=2),
        "raw": save_encoder(root / "raw", seed=1, normalised=False),
        "wide": save_encoder(root / "wide", seed=1, size=32),
    }


def test_vectors_are_those_of_sentence_transformers(folders: dict[str, Path]) -> None:
    encoder = load_encoder(folders["one"], device="cpu")
    expected = SentenceTransformer(str(folders["one"]), device="cpu").encode(["to fish", "in winter"])
    vectors = encoder.encode_passages(["to fish", "in winter"])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_questions(["to fish", "in winter"]), expected, atol=1e-6)
    assert vectors.dtype == np.float32 and vectors.flags.c_contiguous


def test_the_fingerprint_is_that_of_the_weights_not_of_the_path(folders: dict[str, Path]) -> None:
    prints = {name: load_encoder(folder, device="cpu").fingerprint for name, folder in folders.items()}
    assert prints["one"] == prints["same"]
    assert len(set(prints.values())) == len(prints) - 1


def test_a_pair_has_one_model_for_each_side(folders: dict[str, Path]) -> None:
    pair = load_encoder(folders["one"], question=folders["two"], device="cpu")
    one, two = (load_encoder(folders[name], device="cpu") for name in ("one", "two"))
    np.testing.assert_allclose(pair.encode_passages(["fish"]), one.encode_passages(["fish"]), atol=1e-6)
    np.testing.assert_allclose(pair.encode_questions(["fish"]), two.encode_questions(["fish"]), atol=1e-6)
    assert pair.passage_text("Title", "text") == "Title [SEP] text"
    assert one.passage_text("Title", "text") == "text"
    assert pair.fingerprint != one.fingerprint, "what is embedded differs"


def test_the_default_temperature_suits_the_length_of_the_vectors(folders: dict[str, Path]) -> None:
    assert load_encoder(folders["one"], device="cpu").temperature == COSINE_TEMPERATURE
    assert load_encoder(folders["raw"], device="cpu").temperature == 1.0


def test_two_encoders_of_different_dimension_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="one dimension"):
        load_encoder(folders["one"], question=folders["wide"], device="cpu")


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "no-such-org/no-such-model"])
def test_what_is_no_encoder_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_encoder(name, device="cpu")
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError):
        load_encoder(tmp_path, device="cpu")


@pytest.mark.slow
def test_the_packaged_encoder_knows_what_is_alike() -> None:
    encoder = load_encoder(device="cpu")
    passages = encoder.encode_passages(["Paris is the capital of France.", "Hens lay fewer eggs in winter."])
    question = encoder.encode_questions(["What is the capital city of France?"])[0]
    first, second = passages @ question
    assert first > 0.6 > second and passages.shape == (2, 384)
