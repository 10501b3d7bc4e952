"""Questions to a store with an extractive reader, through the facade."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mixrag import RAG, Settings
from mixrag.cli import show
from mixrag.config.bundle import Bundle, write_bundle
from mixrag.config.model_config import models_digest
from mixrag.config.prompt_template import PromptTemplate
from mixrag.corpus import Store
from mixrag.errors import MissingPackageError
from mixrag.generator import ExtractiveGenerator, load_generator
from mixrag.generator.answer_tokens import AnswerTokenizer
from tiny_models import chat_tokenizer
from tiny_span_model import encoder_tokenizer, span_bert, span_generator
from words_encoder import WordsEncoder

TEXTS = {
    "ferry.txt": "The ferry to Skarv costs nine crowns in May.",
    "fee.txt": "Åse Ødegård pays the fee of ten crowns.",
    "master.txt": "The harbour master pays in June.",
}
QUESTION = "Who pays the fee?"


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    store = Store.open(tmp_path / "store", create=True)
    with RAG(store, encoder=WordsEncoder(), generator=span_generator(), settings=Settings(k=3)) as rag:
        rag.index([folder])
        yield rag


def test_an_answer_is_a_span_or_nothing(rag: RAG) -> None:
    for decoder in ("greedy", "beam", "sample"):
        answer = rag.ask(QUESTION, decoder=decoder)
        assert answer.text == "" or any(answer.text in text for text in TEXTS.values())
        assert answer.probability == pytest.approx(rag.score(QUESTION, answer.text).probability, rel=1e-9)


def test_questions_together_and_alone_are_equal(rag: RAG) -> None:
    questions = [QUESTION, "What is the fee?", "When?"]
    assert [each.probability for each in rag.ask_many(questions)] == [rag.ask(q).probability for q in questions]


def test_the_distribution_and_the_score_agree(rag: RAG) -> None:
    found = rag.answer_distribution(QUESTION)
    assert float(found.probabilities.sum()) == pytest.approx(1)
    assert found.probability("harbour master") >= rag.score(QUESTION, "harbour master").probability
    assert found.p_empty == pytest.approx(rag.score(QUESTION, "").probability)
    assert rag.score(QUESTION, "eleven").probability == 0


def test_group_null_and_closed_book(rag: RAG) -> None:
    assert rag.answer_distribution(QUESTION, k=0).p_empty == 1
    with_null = rag.answer_distribution(QUESTION, null=0.0)
    retrieval = rag.passages(QUESTION, null=0.0)
    without = rag.answer_distribution(QUESTION)
    null = math.exp(retrieval.log_null)
    assert 0 < null < 1
    assert with_null.p_empty == pytest.approx(null + (1 - null) * without.p_empty)
    assert len(rag.condition(QUESTION, group="all").components) == 1
    assert rag.answer_distribution(QUESTION, group="all").best is not None


def test_an_evidence_ratio_that_is_not_defined_is_shown_so(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a passage the reader answers nothing, and what no passage has is impossible."""
    possible = max(rag.answer_distribution(QUESTION), key=lambda each: (each.text != "", each.probability)).text
    for text, null in ((possible, None), (possible, 0.0), ("eleven", None), ("eleven", 0.0)):
        answer = rag.score(QUESTION, text, null=null)
        found = answer.explain()
        for component in found.components:
            assert component.log_evidence_ratio is None
            assert math.isfinite(component.log_likelihood) or component.log_likelihood == -math.inf
        document = {**answer.to_dict(), "why": found.to_dict()}
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        page = answer.to_html()
        assert "<dd>not defined</dd>" in page and "undefined" not in page and "nan" not in page.lower()
        show.answer(answer, found, as_json=False)
        out = capsys.readouterr().out
        assert "log evidence ratio             not defined" in out and "nan" not in out.lower().split()
    empty = rag.score(QUESTION, "").explain()
    assert all(math.isfinite(each.log_evidence_ratio or 0.0) for each in empty.components)
    assert empty.log_null_likelihood == 0.0


def test_an_explanation_counts_what_the_encoder_reads(rag: RAG) -> None:
    for component in rag.ask(QUESTION).explain().components:
        assert component.prompt_tokens > len(component.prompt.split())


def test_a_packaged_reader_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixrag.generator.span_loading.packaged_span_reader", lambda: None)
    with pytest.raises(MissingPackageError, match="extractive reader"):
        load_generator("extractive")


@pytest.mark.parametrize("template", [None, PromptTemplate(chat=False, question="{question}?")])
def test_a_bundle_of_a_reader_opens_as_it_was(rag: RAG, tmp_path: Path, template: PromptTemplate | None) -> None:
    """Answers keep their tokens: those of the tokenizer and the prompt that the reader had."""
    reader = replace(
        span_generator(longest=5, window=80), answers=AnswerTokenizer(chat_tokenizer(), template), name="own"
    )
    questions = [QUESTION, "What is the fee?", "When?"]
    with RAG(rag.store, encoder=WordsEncoder(), generator=reader, settings=rag.settings) as before:
        expected = [before.ask(question) for question in questions]
        whole = before.answer_distribution(QUESTION)
    with RAG(rag.store, generator=reader, settings=rag.settings) as before:
        before.save(tmp_path / "bundle")
    moved = (tmp_path / "bundle").rename(tmp_path / "moved")
    with RAG.open(tmp_path / "store", model=moved, encoder=WordsEncoder()) as again:
        assert isinstance(again.generator, ExtractiveGenerator) and again.generator.config == reader.config
        for answer, question in zip(expected, questions, strict=True):
            found = again.ask(question)
            assert (found.text, found.scored.tokens) == (answer.text, answer.scored.tokens)
            assert found.log_prob == pytest.approx(answer.log_prob, rel=1e-6)
        assert again.answer_distribution(QUESTION).texts == whole.texts


def test_a_reader_with_another_tokenizer_of_answers_is_saved_with_it(rag: RAG, tmp_path: Path) -> None:
    span_bert().save_pretrained(tmp_path / "reader")
    encoder_tokenizer().save_pretrained(tmp_path / "reader")
    options = {"generator": tmp_path / "reader", "tokenizer": chat_tokenizer()}
    with RAG.open(tmp_path / "store", **options) as before:
        before.save(tmp_path / "bundle")
        tokens = before.generator.answer_tokens("nine crowns")
    with RAG.open(tmp_path / "store", model=tmp_path / "bundle") as again:
        assert isinstance(again.generator, ExtractiveGenerator)
        assert again.generator.answer_tokens("nine crowns") == tokens
        assert again.generator.vocabulary_size == len(chat_tokenizer())


def test_the_packaged_reader_is_a_bundle_that_training_wrote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    span_bert().save_pretrained(tmp_path / "bundle" / "generator")
    encoder_tokenizer().save_pretrained(tmp_path / "bundle" / "generator")
    answering = {"temperature": 0.5, "k": 2}
    write_bundle(Bundle(tmp_path / "bundle", generator="generator", adapter="none", settings=answering))
    for module in ("mixrag.generator.span_loading", "mixrag.config.model_config"):
        monkeypatch.setattr(f"{module}.packaged_span_reader", lambda: tmp_path / "bundle")
    Store.open(tmp_path / "store", create=True).close()
    tokenizer = chat_tokenizer()
    with RAG.open(tmp_path / "store", generator="extractive", tokenizer=tokenizer) as packaged:
        assert isinstance(packaged.generator, ExtractiveGenerator)
        assert (packaged.settings.temperature, packaged.settings.k) == (0.5, 2)
        digest = models_digest(packaged.models)
    with RAG.open(tmp_path / "store", model=tmp_path / "bundle", tokenizer=tokenizer) as trained:
        assert isinstance(trained.generator, ExtractiveGenerator)
        assert models_digest(trained.models) == digest


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_what_is_answered_is_given_that_something_is(rag: RAG, decoder: str) -> None:
    found = rag.answer_distribution(QUESTION)
    answer = rag.ask(QUESTION, empty_answer=True, decoder=decoder, beams=40, abstain_below=0)
    plain = rag.score(QUESTION, answer.text).probability
    assert answer.text
    assert answer.p_empty == pytest.approx(found.p_empty)
    assert answer.probability == pytest.approx(plain / (1 - found.p_empty))
    assert rag.answer_distribution(QUESTION, empty_answer=True).p_empty == found.p_empty
    if decoder == "beam":
        assert answer.certified


@pytest.mark.parametrize("empty_answer", [False, True])
@pytest.mark.parametrize(
    "question", ["Is the ferry free?", "List all the fees.", "Explain the fee.", "Which months are due?"]
)
def test_other_kinds_of_questions(rag: RAG, question: str, empty_answer: bool) -> None:
    answer = rag.ask(question, empty_answer=empty_answer, null=0.0)
    assert not math.isnan(answer.log_prob)
    assert 0 <= answer.probability <= 1
