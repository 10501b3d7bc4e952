"""The reader that ships with mixrag: complete, small, without traces of where it was made, and it reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, ModelConfig
from mixrag.answers.confidence import calibrations_for
from mixrag.config.bundle import read_bundle
from mixrag.config.default_models import packaged_reader, packaged_span_reader
from mixrag.config.model_config import bundle_for, completed, defaults, models_digest
from mixrag.generator import PromptTemplate
from mixrag.training.run import starting_prompt

DEMO = Path(__file__).parents[2] / "demo" / "corpus"
ASKED = {
    "What was the name of Rosamund Quill's boat?": "Patient Grace",
    "Who founded the Dunmarret Credit Union?": "Osric Penhallow",
}


@pytest.fixture(scope="module")
def reader() -> Path:
    folder = packaged_reader()
    assert folder is not None
    return folder


def test_it_is_there_with_its_card_and_small(reader: Path) -> None:
    assert {path.name for path in reader.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "confidence-int8.json",
        "confidence.json",
        "mixrag.json",
    }
    assert size(reader) <= 10_000_000


def size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_extractive_reader_is_there_and_both_are_small(reader: Path) -> None:
    spans = packaged_span_reader()
    assert spans is not None
    assert {path.name for path in (spans / "generator").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "extractive.json",
    }
    assert size(reader) + size(spans) <= 12_000_000
    assert read_bundle(reader).span_reader == "extractive"


def test_it_brings_prompt_and_retrieval_settings(reader: Path) -> None:
    trained = read_bundle(reader)
    template = PromptTemplate.from_file(DEMO.parent.parent / "benchmarks" / "reader.toml")
    assert trained.prompt == template.fields()
    assert set(trained.settings) == {
        "temperature",
        "lexical",
        "lexical_temperature",
        "empty_answer",
        "kind",
        "decoder",
    }


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_its_confidence_is_that_of_the_default(reader: Path, engine: Any) -> None:
    """With another reader, prompt or default setting they would have to be fitted anew: one for each engine."""
    given = ModelConfig(engine=engine)
    trained = bundle_for(given, None)
    assert trained is not None and trained.folder == reader
    digest = models_digest(completed(given, trained))
    (calibration,) = (each for each in calibrations_for(given, trained, None) if each.models == digest)
    assert 0 < calibration.threshold < 1
    assert calibration.mismatch(defaults(given, trained, None), digest) is None
    assert calibration.fitted_on


def test_training_that_starts_from_it_keeps_its_prompt(reader: Path) -> None:
    assert starting_prompt(ModelConfig()).fields() == read_bundle(reader).prompt
    assert starting_prompt(ModelConfig(adapter="none")) == PromptTemplate()
    assert starting_prompt(ModelConfig(prompt=PromptTemplate(header="MINE"))).header == "MINE"


def test_it_names_no_path_of_the_machine_that_made_it(reader: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in reader.iterdir() if path.suffix in (".md", ".json")]
    assert len(texts) == 5 and not any(re.search(r"(?<![\w.])/[a-z]\w*/", text) for text in texts)


@pytest.mark.slow
def test_it_answers_from_documents_that_no_model_has_seen(tmp_path: Path) -> None:
    with RAG.open(tmp_path / "store", create=True, models=ModelConfig(device="cpu")) as rag:
        rag.index([DEMO])
        assert rag.settings.lexical == 0.5
        for question, gold in ASKED.items():
            answer = rag.ask(question)
            assert answer.best_guess == gold and answer.probability > 0.3
