"""Stores of one process that share models: each model is loaded once, where its settings are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG
from mixrag.answers import store_models
from mixrag.config.command_settings import ServerSettings
from mixrag.corpus import Store
from mixrag.generator.fingerprint import generator_fingerprint
from mixrag.server.serving import opened
from scripted import scripted
from words_encoder import WordsEncoder

ANSWERS = {"cod": {"nine crowns": 0.9}, "": {"four crowns": 0.5}}
QUESTION = "What does a licence for cod cost?"
TEXT = "A licence to fish cod costs nine crowns."


class Loads:
    """Counts what is loaded."""

    def __init__(self) -> None:
        self.generators, self.encoders = list[Any](), list[Any]()

    def generator(self, models: Any, weight: float) -> Any:
        self.generators.append(scripted(ANSWERS))
        return self.generators[-1]

    def encoder(self, models: Any, stored: str | None) -> WordsEncoder:
        self.encoders.append(WordsEncoder())
        return self.encoders[-1]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    found = Loads()
    monkeypatch.setattr(store_models, "load_configured", found.generator)
    monkeypatch.setattr(store_models, "configured_encoder", found.encoder)
    return found


def ask(rag: RAG) -> str:
    rag.add([{"id": "cod", "text": TEXT}])
    return rag.ask(QUESTION, decoder="greedy").best_guess  # for which there is no confidence


@pytest.mark.parametrize("first_asked", [0, 1])
def test_equal_models_are_loaded_once_whoever_needs_them_first(
    first_asked: int, tmp_path: Path, loads: Loads
) -> None:
    one = RAG.open(tmp_path / "a", create=True)
    two = RAG.open(tmp_path / "b", create=True, sharing=one)
    with one, two:
        rags = [one, two]
        assert {ask(rags[first_asked]), ask(rags[1 - first_asked])} == {"nine crowns"}
        assert one.generator is two.generator and one.encoder is two.encoder
        assert one.models_digest == two.models_digest
        assert one.calibration is not None and two.calibration is not None
    assert (len(loads.generators), len(loads.encoders)) == (1, 1)


def test_other_models_are_not_shared(tmp_path: Path, loads: Loads) -> None:
    one = RAG.open(tmp_path / "a", create=True)
    two = RAG.open(tmp_path / "b", create=True, sharing=one, dtype="float32")
    with one, two:
        assert ask(one) == ask(two)
        assert one.generator is not two.generator and one.encoder is not two.encoder


def test_vectors_of_another_encoder_have_one_of_their_own(tmp_path: Path, loads: Loads) -> None:
    with RAG.open(tmp_path / "b", create=True) as before:
        before._encoder = WordsEncoder(fingerprint="another")
        before.add([{"id": "cod", "text": TEXT}])
    with RAG.open(tmp_path / "a", create=True) as one:
        one.add([{"id": "cod", "text": TEXT}])
        with RAG.open(tmp_path / "b", sharing=one) as two:
            assert two.encoder is not one.encoder and two.generator is one.generator


def test_a_server_loads_the_models_of_its_stores_once(tmp_path: Path, loads: Loads) -> None:
    def open_one(folder: Path | None, sharing: RAG | None) -> RAG:
        return RAG.open(folder or tmp_path / "a", create=True, sharing=sharing)

    service = opened(ServerSettings(also=(f"law={tmp_path / 'b'}", f"fees={tmp_path / 'c'}")), open_one)
    try:
        assert {ask(each.rag) for each in service.stores} == {"nine crowns"}
        assert (len(loads.generators), len(loads.encoders)) == (1, 1)
    finally:
        service.close()


def test_a_given_generator_that_is_shared_is_told_apart(tmp_path: Path) -> None:
    """Owners of shards know a model by its fingerprint: one that was given is not the default one."""
    given = scripted(ANSWERS)
    with Store.open(tmp_path / "a", create=True) as first, Store.open(tmp_path / "b", create=True) as second:
        one = RAG(first, generator=given, encoder=WordsEncoder())
        two = RAG(second, sharing=RAG(second, sharing=one))
        assert two.generator is given
        assert two.generator_fingerprint == one.generator_fingerprint != generator_fingerprint(two.models)
