"""Records belong to the engine that ran the model, also where auto chose another one first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evaluation.test_scoring import WORDS, distribution
from mixrag import RAG, ModelConfig
from mixrag.answers import store_models
from mixrag.config import engine_choice
from mixrag.corpus import Store
from mixrag.evaluation.records import identity
from mixrag.generator import TableGenerator
from words_encoder import WordsEncoder


def test_the_engine_is_known_before_the_first_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(models: ModelConfig, _: float) -> Any:
        engine_choice.runs_with(models, "torch")
        return TableGenerator(WORDS, distribution)

    monkeypatch.delenv("MIXRAG_ENGINE", raising=False)
    monkeypatch.setattr(engine_choice, "_found", {})
    monkeypatch.setattr(engine_choice, "installed", lambda package: True)
    monkeypatch.setattr(store_models, "load_configured", load)
    models = ModelConfig(engine="auto", generator="some/model", device="cpu")
    with RAG(Store.open(tmp_path / "store", create=True), encoder=WordsEncoder(), models=models) as rag:
        assert rag.info().engine == "openvino, weights int8"
        before = identity(rag)
        assert rag.info().engine == "torch" and identity(rag) == before


def test_a_generator_that_was_given_is_named(tmp_path: Path) -> None:
    models, generator = ModelConfig(engine="openvino"), TableGenerator(WORDS, distribution)
    with RAG(Store.open(tmp_path / "store", create=True), generator=generator, models=models) as rag:
        assert rag.info().engine == "TableGenerator"
