"""mixrag in Haystack: in its pipelines, written down and loaded again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from haystack import Pipeline
from haystack.components.builders import PromptBuilder
from haystack.core.errors import DeserializationError

from integrations.conftest import QUESTION, TEXTS, examples_of
from mixrag import RAG
from mixrag.errors import PluginError, SettingError, StoreMissingError
from mixrag.integrations import haystack
from mixrag.integrations.haystack import MixragAnswerer, MixragRetriever


def test_the_examples_of_the_module(rag: RAG) -> None:
    assert examples_of(haystack, rag) >= 5


def test_the_score_of_a_document_is_its_prior(rag: RAG) -> None:
    own = rag.passages(QUESTION, k=2)
    found = MixragRetriever(rag, settings={"k": 2}).run(QUESTION)["documents"]
    assert [document.score for document in found] == own.log_prior.exp().tolist()
    assert [document.content for document in found] == [TEXTS["cod.txt"], TEXTS["eel.txt"]]
    assert [document.id for document in found] == [passage.id for passage in own.passages]
    assert found[0].meta["title"] == "cod" and found[0].meta["prior"] == found[0].score


def test_both_stand_in_a_pipeline_of_haystack(rag: RAG) -> None:
    pipeline = Pipeline()
    pipeline.add_component("retriever", MixragRetriever(rag, settings={"k": 3}))
    template = "{% for document in documents %}{{ document.content }}|{% endfor %}"
    pipeline.add_component("prompt", PromptBuilder(template, required_variables=["documents"]))
    pipeline.add_component("answerer", MixragAnswerer(rag, settings={"k": 2}))
    pipeline.connect("retriever.documents", "prompt.documents")
    found = pipeline.run({"retriever": {"query": QUESTION, "settings": {"k": 1}}, "answerer": {"query": QUESTION}})
    assert found["prompt"]["prompt"] == TEXTS["cod.txt"] + "|"
    (answer,) = found["answerer"]["answers"]
    own = rag.ask(QUESTION, k=2)
    assert answer.data == own.text and answer.query == QUESTION
    assert answer.meta["probability"] == own.probability
    assert [each.meta["posterior"] for each in answer.documents] == [each.posterior for each in own.passages]
    assert answer.to_dict()["meta"]["withheld"] is False


def test_a_pipeline_is_written_down_and_loaded_again(
    store: Path, rag: RAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    def opens(folder: str, **options: Any) -> RAG:
        opened.append((folder, options))
        return rag

    monkeypatch.setattr(RAG, "open", opens)
    pipeline = Pipeline()
    pipeline.add_component("retriever", MixragRetriever(store, settings={"k": 2}))
    pipeline.add_component("answerer", MixragAnswerer(str(store), model="trained"))
    with pytest.raises(DeserializationError, match="allowlist"):  # Haystack's own guard
        Pipeline.loads(pipeline.dumps())
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["mixrag.integrations.haystack"])
    assert opened == []
    found = again.run({"retriever": {"query": QUESTION}, "answerer": {"query": QUESTION}})
    assert len(found["retriever"]["documents"]) == 2 and len(found["answerer"]["answers"]) == 1
    assert sorted(opened, key=str) == [(str(store), {"model": "trained"}), (str(store), {"model": None})]
    again.run({"retriever": {"query": QUESTION}, "answerer": {"query": QUESTION}})
    assert len(opened) == 2


def test_async_gives_the_same(rag: RAG) -> None:
    retriever, answerer = MixragRetriever(rag), MixragAnswerer(rag)

    async def both() -> tuple:
        return await asyncio.gather(retriever.run_async(QUESTION), answerer.run_async(QUESTION))

    documents, answers = asyncio.run(both())
    assert documents == retriever.run(QUESTION) and answers == answerer.run(QUESTION)


def test_a_withheld_answer_says_so(withholding: RAG) -> None:
    (answer,) = MixragAnswerer(withholding).run(QUESTION)["answers"]
    assert answer.data == "No answer: the confidence 0.12 is below the threshold 0.50."
    assert answer.meta["withheld"] is True and answer.meta["best_guess"]


def test_bad_input_is_one_line(rag: RAG, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="found int without ask, passages"):
        MixragRetriever(3)
    with pytest.raises(SettingError, match="found an open RAG"):
        MixragAnswerer(rag).to_dict()
    with pytest.raises(StoreMissingError):
        MixragRetriever(tmp_path / "nowhere").run(QUESTION)
