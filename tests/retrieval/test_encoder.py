"""Encoders: shared or paired, fingerprinted, refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from mixrag import load_encoder
from mixrag.errors import ModelError, SettingError
from mixrag.retrieval.encoders import COSINE_TEMPERATURE
from mixrag.retrieval.encoders.sentence import DTYPES
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
    assert one.passage_text("Title", "text") == "Title\ntext"
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


def test_the_fingerprint_tells_the_number_format(folders: dict[str, Path]) -> None:
    whole = load_encoder(folders["one"], device="cpu")
    half = load_encoder(folders["one"], device="cpu", dtype="bfloat16")
    assert half.fingerprint != whole.fingerprint and "bfloat16" in half.name
    assert half.fingerprint == load_encoder(folders["same"], device="cpu", dtype="bfloat16").fingerprint
    assert half.fingerprint != load_encoder(folders["two"], device="cpu", dtype="bfloat16").fingerprint
    texts = ["to fish", "in winter"]
    assert np.abs(half.encode_passages(texts) - whole.encode_passages(texts)).max() > 1e-6
    np.testing.assert_array_equal(half.encode_questions(texts), whole.encode_questions(texts))


@pytest.mark.parametrize("native", [False, True])
def test_auto_takes_the_format_that_is_stored(
    folders: dict[str, Path], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixrag.retrieval.encoders.loading.native_bfloat16", lambda: native)
    prints = {dtype: load_encoder(folders["one"], device="cpu", dtype=dtype).fingerprint for dtype in DTYPES}
    for dtype, stored in prints.items():
        assert load_encoder(folders["one"], device="cpu", dtype="auto", stored=stored).dtype == dtype
    own = "bfloat16" if native else "float32"
    assert load_encoder(folders["one"], device="cpu", dtype="auto").dtype == own
    assert load_encoder(folders["two"], device="cpu", dtype="auto", stored=prints["float32"]).dtype == own


def test_an_unknown_format_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(SettingError, match="float16"):
        load_encoder(folders["one"], device="cpu", dtype="float16")


def test_a_model_of_another_kind_is_encoded_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixrag.retrieval.encoders.loading.native_bfloat16", lambda: True)
    tokenizer = SentenceTransformer(str(save_encoder(tmp_path / "tiny")), device="cpu").tokenizer
    static = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)], device="cpu")
    static.save_pretrained(str(tmp_path / "static"))
    found = load_encoder(tmp_path / "static", device="cpu", dtype="auto")
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found.encode_passages(["to fish", "cod"]), static.encode(["to fish", "cod"]))
    with pytest.raises(
        ModelError, match=r"bfloat16; found its first module is StaticEmbedding.*--encoder-dtype float32"
    ):
        load_encoder(tmp_path / "static", device="cpu", dtype="bfloat16")


@pytest.mark.slow
def test_the_packaged_encoder_keeps_the_fingerprint_of_stores_that_exist() -> None:
    assert load_encoder(device="cpu").fingerprint.startswith("5fc884007bb88462")


def test_a_device_that_there_is_not_is_named_and_not_the_encoder(tmp_path: Path) -> None:
    for folder in (save_encoder(tmp_path), tmp_path / "nowhere"):
        with pytest.raises(SettingError, match="a device: cpu, cuda, cuda:1 or mps; found 'gpu'"):
            load_encoder(folder, device="gpu")
