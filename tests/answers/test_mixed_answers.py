"""Questions to a store with a language model and an extractive reader, through the facade, folders and bundles."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mixrag import RAG, ModelConfig, Settings
from mixrag.config.bundle import Bundle, read_bundle, write_bundle
from mixrag.config.model_config import models_digest
from mixrag.corpus import Store
from mixrag.errors import ModelError
from mixrag.generator import CausalGenerator, ExtractiveGenerator, Generator, MixedGenerator, load_generator
from tiny_encoder import save_encoder
from tiny_span_model import encoder_tokenizer, span_bert, span_generator
from words_encoder import WordsEncoder

TEXTS = {
    "ferry.txt": "The ferry to Skarv costs nine crowns in May.",
    "fee.txt": "Åse Ødegård pays the fee of ten crowns.",
    "master.txt": "The harbour master pays in June.",
}
QUESTION = "Who pays the fee?"
Loaded = Callable[[str], Generator]
Folder = Callable[[str], Path]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    opened = Store.open(tmp_path / "store", create=True)
    with RAG(opened, encoder=WordsEncoder()) as rag:
        rag.index([folder])
    return tmp_path / "store"


@pytest.fixture
def rag(store: Path, tiny_generator: Loaded) -> Iterator[RAG]:
    both = MixedGenerator(tiny_generator("llama-chat"), span_generator())
    settings = Settings(k=3, max_tokens=12, empty_answer=True, abstain_below=0.0)
    with RAG(Store.open(store), encoder=WordsEncoder(), generator=both, settings=settings) as rag:
        yield rag


@pytest.fixture
def span_folder(tmp_path: Path) -> Path:
    span_bert().save_pretrained(tmp_path / "spans")
    encoder_tokenizer().save_pretrained(tmp_path / "spans")
    return tmp_path / "spans"


@pytest.fixture
def bundle(tmp_path: Path, tiny_folder: Folder) -> Path:
    """A trained folder with both, and the weight of the language model."""
    folder = tmp_path / "bundle"
    span_bert().save_pretrained(folder / "span_reader")
    encoder_tokenizer().save_pretrained(folder / "span_reader")
    answering = {"k": 2, "language_model_weight": 0.25, "empty_answer": True}
    generator = str(tiny_folder("llama-chat"))
    write_bundle(Bundle(folder, generator=generator, span_reader="span_reader", settings=answering))
    return folder


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("switch", [0.0, 0.3])
def test_answers_say_what_each_generator_contributes(rag: RAG, switch: float, copy: bool) -> None:
    asked = {"switch": switch, "copy": copy}
    for decoder in ("greedy", "beam"):
        answer = rag.ask(QUESTION, decoder=decoder, **asked)
        found = answer.to_dict()["generators"]
        assert [*found] == ["language-model", "extractive"]
        assert math.fsum(each["share"] for each in found.values()) == pytest.approx(1.0)
        again = rag.score(QUESTION, answer.best_guess, **asked)
        if answer.finished and rag.generator.answer_tokens(answer.best_guess) == answer.scored.tokens:
            assert answer.probability == pytest.approx(again.probability, rel=1e-4)
            assert found["extractive"]["probability"] == pytest.approx(
                again.to_dict()["generators"]["extractive"]["probability"], rel=1e-4
            )


def test_the_probability_is_the_weighted_sum_of_both(rag: RAG) -> None:
    for weight in (0.2, 0.9):
        answer = rag.score(QUESTION, "nine crowns", empty_answer=False, language_model_weight=weight)
        found = answer.generators
        assert found is not None
        total = weight * found["language-model"].probability + (1 - weight) * found["extractive"].probability
        assert answer.probability == pytest.approx(total, rel=1e-9)
        assert found["language-model"].p_empty is None
        part = weight * found["language-model"].probability / total
        assert found["language-model"].share == pytest.approx(part, abs=1e-9)


def test_agreement_is_the_smaller_probability_of_the_answer_by_the_larger(rag: RAG) -> None:
    for text in ("nine crowns", "the fee", "Skarv", "seven"):
        answer = rag.score(QUESTION, text)
        assert answer.generators is not None
        smaller, larger = sorted(each.probability for each in answer.generators.values())
        assert answer.signals.agreement == pytest.approx(smaller / larger, rel=1e-9)
        assert (answer.signals.agreement == 0.0) == (text == "seven")


def test_the_empty_answer_is_the_weighted_sum_of_both(rag: RAG) -> None:
    for weight in (0.2, 0.9):
        answer = rag.score(QUESTION, "nine crowns", empty_answer=True, language_model_weight=weight)
        assert answer.generators is not None
        model, spans = (each.p_empty for each in answer.generators.values())
        assert model is not None
        assert spans is not None
        assert abs(model - spans) > 0.001
        assert answer.p_empty == pytest.approx(weight * model + (1 - weight) * spans, rel=1e-9)
        assert answer.signals.most_empty == pytest.approx(max(model, spans), rel=1e-9)
        assert answer.to_dict()["generators"]["extractive"]["p_empty"] == spans
        alone = rag.score(QUESTION, "nine crowns", empty_answer=True, language_model_weight=1e-9)
        assert alone.p_empty == pytest.approx(spans, rel=1e-6)


def test_questions_together_and_alone_are_equal(rag: RAG) -> None:
    questions = [QUESTION, "What is the fee?", "When?"]
    alone = [rag.ask(question) for question in questions]
    for one, other in zip(alone, rag.ask_many(questions), strict=True):
        assert one.best_guess == other.best_guess
        assert one.probability == pytest.approx(other.probability, rel=1e-4)
        assert one.p_empty == pytest.approx(other.p_empty, rel=1e-4)


@pytest.mark.parametrize(
    "question", ["Is the ferry free?", "List all the fees.", "Explain the fee.", "Which months are due?"]
)
def test_other_kinds_of_questions(rag: RAG, question: str) -> None:
    answer = rag.ask(question, null=0.0, kind="auto")
    assert 0 <= answer.probability <= 1
    assert (answer.generators is None) == (answer.kind == "extract")


def test_an_answer_can_be_explained_and_hashed(rag: RAG) -> None:
    answer = rag.ask(QUESTION)
    assert hash(answer) == hash(answer)
    assert answer.explain().to_dict()
    assert "generators" not in span_only(rag).to_dict()


def span_only(rag: RAG) -> object:
    with RAG(rag.store, encoder=WordsEncoder(), generator=span_generator(), settings=rag.settings) as alone:
        return alone.ask(QUESTION)


def test_answers_of_a_language_model_cannot_be_enumerated(rag: RAG) -> None:
    with pytest.raises(ModelError, match="finitely many answers"):
        rag.answer_distribution(QUESTION)


def test_a_mixture_given_as_an_object_is_not_saved(rag: RAG, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        rag.save(tmp_path / "saved")


def test_a_bundle_with_both(bundle: Path, store: Path) -> None:
    with RAG.open(store, model=bundle, encoder=WordsEncoder()) as rag:
        generator = rag.generator
        assert isinstance(generator, MixedGenerator) and generator.weight == 0.25
        assert isinstance(generator.language_model, CausalGenerator)
        assert isinstance(generator.extractive, ExtractiveGenerator)
        assert rag.condition(QUESTION).generator.weight == 0.25  # type: ignore[attr-defined]
        assert rag.condition(QUESTION, language_model_weight=0.5).generator.weight == 0.5  # type: ignore[attr-defined]
        assert rag.precompute().passages == 3


@pytest.mark.parametrize(
    ("word", "kind"),
    [("both", MixedGenerator), ("language-model", CausalGenerator), ("extractive", ExtractiveGenerator)],
)
def test_each_part_of_a_bundle_by_its_word(word: str, kind: type, bundle: Path, store: Path) -> None:
    tokenizer = read_bundle(bundle).generator
    with RAG.open(store, model=bundle, encoder=WordsEncoder(), generator=word, tokenizer=tokenizer) as rag:
        assert type(rag.generator) is kind
        assert rag.settings.k == 2 and rag.settings.empty_answer
        assert rag.ask(QUESTION, max_tokens=8).best_guess is not None
        digest = models_digest(rag.models)
    with RAG.open(store, model=bundle, encoder=WordsEncoder(), tokenizer=tokenizer) as unnamed:
        assert (models_digest(unnamed.models) == digest) == (word == "both")


def test_another_generator_is_used_alone(bundle: Path, store: Path, tiny_folder: Folder) -> None:
    with RAG.open(store, model=bundle, encoder=WordsEncoder(), generator=tiny_folder("gpt2")) as rag:
        assert isinstance(rag.generator, CausalGenerator)


def test_a_saved_bundle_has_both_and_equal_numbers(
    store: Path, tmp_path: Path, span_folder: Path, tiny_folder: Folder
) -> None:
    save_encoder(tmp_path / "encoder", seed=3)
    models = ModelConfig(
        generator=tiny_folder("llama-chat"),
        span_reader=span_folder,
        encoder=tmp_path / "encoder" / "model",
        dtype="float32",
    )
    with RAG.open(store, models=models, settings={"language_model_weight": 0.75}) as rag:
        rag.index([tmp_path / "files"], reembed=True)
        expected, digest = rag.score(QUESTION, "nine crowns").log_prob, models_digest(rag.models)
        saved = rag.save(tmp_path / "saved")
    assert read_bundle(saved).span_reader == "span_reader"
    with RAG.load(saved, store, models=ModelConfig(dtype="float32")) as loaded:
        assert loaded.settings.language_model_weight == 0.75
        assert loaded.score(QUESTION, "nine crowns").log_prob == pytest.approx(expected, abs=1e-9)
        assert isinstance(loaded.generator, MixedGenerator)
        assert models_digest(replace(loaded.models, prompt=None)) == digest


def test_the_words_without_a_bundle_mean_the_packaged_models(
    monkeypatch: pytest.MonkeyPatch, bundle: Path, tmp_path: Path, tiny_folder: Folder, store: Path
) -> None:
    packaged = tmp_path / "span_reader"
    span_bert(1).save_pretrained(packaged / "generator")
    encoder_tokenizer().save_pretrained(packaged / "generator")
    write_bundle(Bundle(packaged, generator="generator", adapter="none"))
    document = json.loads((bundle / "mixrag.json").read_text())
    (bundle / "mixrag.json").write_text(json.dumps({**document, "span_reader": {"name": "extractive"}}))
    for module in ("config.model_config", "generator.span_loading"):
        monkeypatch.setattr(f"mixrag.{module}.packaged_span_reader", lambda: packaged)
    monkeypatch.setattr("mixrag.config.model_config.packaged_reader", lambda: bundle)
    for word, kind in ((None, MixedGenerator), ("both", MixedGenerator), ("language-model", CausalGenerator)):
        with RAG.open(store, encoder=WordsEncoder(), generator=word) as rag:
            assert type(rag.generator) is kind
    with RAG.open(
        store, encoder=WordsEncoder(), generator="extractive", tokenizer=document["generator"]["name"]
    ) as rag:
        assert isinstance(rag.generator, ExtractiveGenerator)
    monkeypatch.setattr("mixrag.config.model_config.packaged_span_reader", lambda: None)
    with RAG.open(store, encoder=WordsEncoder()) as rag:  # the encoder's package is not installed
        assert isinstance(rag.generator, CausalGenerator)


def test_what_cannot_be_mixed_is_refused(tiny_folder: Folder, span_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="to mix with a reader"):
        load_generator(span_folder, tokenizer=tiny_folder("llama-chat"), span_reader=span_folder)
    with pytest.raises(ModelError, match="as span_reader"):
        load_generator(tiny_folder("llama-chat"), span_reader=tiny_folder("gpt2"))
    with pytest.raises(ModelError, match="no such path"):
        load_generator(tiny_folder("llama-chat"), span_reader=tmp_path / "nothing")
