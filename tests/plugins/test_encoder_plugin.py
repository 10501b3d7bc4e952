"""Encoder as a plug-in: the least that is to be written, model objects, and bad input in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from mixrag import RAG, load_encoder
from mixrag.errors import EncoderMismatchError, ModelError, PluginError
from mixrag.retrieval.encoders import COSINE_TEMPERATURE, SentenceEncoder
from plugins.how_to import run_page
from tiny_encoder import save_encoder


class Least:
    """Four members."""

    name = "least"
    fingerprint = "least-1"

    def encode_questions(self, questions):
        return [[float(len(text)), 1.0, 0.0] for text in questions]

    def encode_passages(self, texts):
        return self.encode_questions(texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


def test_the_how_to_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    found = run_page("own-encoder.md")
    printed = capsys.readouterr().out
    assert "nine crowns" in printed.splitlines()[0] and "(1, 512) 0.045" in printed
    assert found["found"].passages[0].document.endswith("fishing.txt")


def test_the_least_encoder_gets_the_rest_by_default() -> None:
    encoder = load_encoder(Least())
    assert (encoder.name, encoder.fingerprint, encoder.temperature) == ("least", "least-1", 1.0)
    assert encoder.passage_text("title", "text") == "title\ntext"
    assert encoder.tokens.limit is None
    vectors = encoder.encode_passages(["abc", "d"])
    assert vectors.dtype == np.float32 and vectors.tolist() == [[3.0, 1.0, 0.0], [1.0, 1.0, 0.0]]


def test_optional_members_are_used_where_they_are_given() -> None:
    class Full(Least):
        temperature = 0.5

        def passage_text(self, title, text):
            return f"{title}: {text}"

    encoder = load_encoder(Full())
    assert encoder.temperature == 0.5 and encoder.passage_text("a", "b") == "a: b"


def test_vectors_of_length_one_get_the_temperature_of_cosines() -> None:
    class Unit(Least):
        def encode_questions(self, questions):
            return torch.nn.functional.normalize(torch.tensor(super().encode_questions(questions)), dim=1)

    assert load_encoder(Unit()).temperature == COSINE_TEMPERATURE


def test_a_pipeline_indexes_and_retrieves_with_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("nine crowns")
    (tmp_path / "b.txt").write_text("a licence to fish cod costs nine crowns a year")
    with RAG.open(tmp_path / "store", create=True, encoder=Least()) as rag:
        rag.index([tmp_path / "a.txt", tmp_path / "b.txt"])
        found = rag.passages("abc", normaliser="full")
        assert len(found.passages) == 2 and found.temperature == 1.0
        assert rag.store.encoder.name == "least"
        lengths = [len(passage.text) for passage in found.passages]
        expected = torch.tensor([3.0 * n + 1 for n in lengths], dtype=torch.float64).log_softmax(0)
        torch.testing.assert_close(found.log_prior, expected)

    class Other(Least):
        fingerprint = "least-2"

    with RAG.open(tmp_path / "store", encoder=Other()) as rag, pytest.raises(EncoderMismatchError, match="least"):
        rag.passages("abc")


def test_a_sentence_transformer_object_is_the_folder_it_came_from(folder: Path) -> None:
    model = SentenceTransformer(str(folder), device="cpu").train()
    encoder, loaded = load_encoder(model), load_encoder(folder, device="cpu")
    assert isinstance(encoder, SentenceEncoder) and not model.training
    assert encoder.fingerprint == loaded.fingerprint and encoder.temperature == loaded.temperature
    np.testing.assert_array_equal(encoder.encode_passages(["to fish"]), loaded.encode_passages(["to fish"]))
    pair = load_encoder(folder, question=model, device="cpu")
    assert pair.question_model is model and pair.passage_model is not model
    assert load_encoder(encoder) is encoder


def test_revision_and_token_reach_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    class Recorded(SentenceTransformer):
        def __init__(self, name, **options):
            asked.update(options, name=name)
            raise OSError("offline")

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", Recorded)
    with pytest.raises(ModelError, match="offline"):
        load_encoder("someone/model", revision="v2", token="secret", device="cpu")
    assert (asked["name"], asked["revision"], asked["token"]) == ("someone/model", "v2", "secret")
    assert asked["trust_remote_code"] is False and asked["model_kwargs"] == {"use_safetensors": True}


def test_without_a_device_sentence_transformers_chooses_mps_where_it_exists(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.util import environment

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert environment.get_device_name() == "mps"
    asked: dict[str, object] = {}

    class Recorded(SentenceTransformer):
        def __init__(self, name, **options):
            asked.update(options)
            super().__init__(name, **{**options, "device": "cpu"})

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", Recorded)
    load_encoder(folder)
    assert asked["device"] is None


def test_loading_and_encoding_draw_no_progress_bars(folder: Path) -> None:
    program = f"from mixrag import load_encoder; load_encoder({str(folder)!r}).encode_passages(['a'] * 40)"
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def without(member: str) -> object:
    class Lacking:
        name, fingerprint = "lacking", "lacking-1"

        def encode_questions(self, questions): ...

        def encode_passages(self, texts): ...

    delattr(Lacking, member)
    return Lacking()


@pytest.mark.parametrize("member", ["name", "fingerprint", "encode_questions", "encode_passages"])
def test_an_object_that_lacks_a_member_is_refused(member: str) -> None:
    with pytest.raises(PluginError, match=f"Lacking without {member}") as caught:
        load_encoder(without(member))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (Least, "the class Least; create an instance"),
        (torch.nn.Linear(2, 2), "Linear without encode_passages"),
        (object(), "without encode_passages, encode_questions, fingerprint, name"),
    ],
)
def test_what_is_no_encoder_is_refused(given: object, match: str) -> None:
    with pytest.raises(PluginError, match=match) as caught:
        load_encoder(given)
    assert "\n" not in str(caught.value)


def test_an_encoder_object_beside_a_question_encoder_is_refused(folder: Path) -> None:
    with pytest.raises(PluginError, match="leave the question encoder out"):
        load_encoder(Least(), question=folder)
    with pytest.raises(
        PluginError, match="a question encoder as name, path or SentenceTransformer; found a Least"
    ):
        load_encoder(folder, question=Least(), device="cpu")
    with pytest.raises(ModelError, match="bfloat16"):
        load_encoder(Least(), dtype="bfloat16")


@pytest.mark.parametrize(
    ("vectors", "match"),
    [
        (lambda n: np.zeros((n + 1, 3)), r"found the shape \(3, 3\)"),
        (lambda n: np.zeros(3), r"found the shape \(3,\)"),
        (lambda n: np.full((n, 3), np.nan), "found NaN or infinity"),
        (lambda n: [["a"] * 3] * n, "no such array"),
        (lambda n: [[1.0], [1.0, 2.0]], "no such array"),
        (lambda n: None, "found"),
    ],
)
def test_wrong_vectors_are_one_line(vectors: Callable[[int], object], match: str) -> None:
    class Wrong(Least):
        def encode_passages(self, texts):
            return vectors(len(texts))

    with pytest.raises(PluginError, match=match) as caught:
        load_encoder(Wrong()).encode_passages(["a", "b"])
    assert "Wrong" in str(caught.value) and "\n" not in str(caught.value)


def test_questions_of_another_dimension_than_passages_are_one_line() -> None:
    class Uneven(Least):
        def encode_questions(self, questions):
            return np.zeros((len(questions), 5))

        def encode_passages(self, texts):
            return np.ones((len(texts), 3))

    with pytest.raises(PluginError, match=r"\(1, 3\) from the encoder Uneven; found the shape \(1, 5\)"):
        load_encoder(Uneven()).encode_questions(["a"])


@pytest.mark.parametrize(("member", "value"), [("fingerprint", 7), ("name", ""), ("temperature", 0.0)])
def test_members_of_the_wrong_type_are_one_line(member: str, value: object) -> None:
    encoder = load_encoder(type("Odd", (Least,), {member: value})())
    with pytest.raises(PluginError, match=f"a {member} .* from the encoder Odd"):
        getattr(encoder, member)
