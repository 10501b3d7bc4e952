"""mixrag in LangChain: in its own chains, with its numbers as they are."""

from __future__ import annotations

import asyncio
from operator import itemgetter

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from integrations.conftest import QUESTION, TEXTS, examples_of
from mixrag import RAG
from mixrag.errors import PluginError, QuestionError, SettingError
from mixrag.integrations import langchain
from mixrag.integrations.langchain import MixragAnswerer, MixragRetriever


def test_the_examples_of_the_module(rag: RAG) -> None:
    assert examples_of(langchain, rag) >= 5


def test_documents_are_the_passages_with_their_prior(rag: RAG) -> None:
    found = MixragRetriever(rag=rag, settings={"k": 2}).invoke(QUESTION)
    own = rag.passages(QUESTION, k=2)
    assert [document.page_content for document in found] == [TEXTS["cod.txt"], TEXTS["eel.txt"]]
    for document, passage, prior in zip(found, own.passages, own.log_prior.exp().tolist(), strict=True):
        assert document.id == passage.id
        assert document.metadata == {
            "id": passage.id,
            "document": passage.document,
            "title": passage.title,
            "start": passage.start,
            "end": passage.end,
            "page": None,
            "place": "",
            "context": "",
            "prior": prior,
        }


def test_metadata_of_a_document_stand_beside_ours_and_do_not_replace_them(rag: RAG, tmp_path) -> None:
    (tmp_path / "r.jsonl").write_text('{"id": "a", "text": "Seal hunting ended.", "year": 1951, "prior": "x"}\n')
    rag.index([tmp_path / "r.jsonl"])
    (found,) = MixragRetriever(rag=rag, settings={"k": 1}).invoke("Seal hunting ended")
    assert found.metadata["year"] == 1951 and found.metadata["prior"] == pytest.approx(1.0)


def test_a_retriever_stands_in_a_chain_of_langchain(rag: RAG) -> None:
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    seen = []

    def joined(documents: list) -> str:
        return "\n".join(document.page_content for document in documents)

    chain = (
        {"context": MixragRetriever(rag=rag, settings={"k": 1}) | joined, "question": RunnablePassthrough()}
        | prompt
        | (lambda value: seen.append(value.to_string()) or value)
        | FakeListChatModel(responses=["nine crowns"])
        | StrOutputParser()
    )
    assert chain.invoke(QUESTION) == "nine crowns"
    assert seen == [f"Human: {TEXTS['cod.txt']}\n\n{QUESTION}"]


def test_an_answer_has_the_probability_that_rag_gives_it(rag: RAG) -> None:
    own = rag.ask(QUESTION, k=2)
    answerer = MixragAnswerer(rag=rag, settings={"k": 2})
    for given in (QUESTION, {"question": QUESTION, "other": 1}):
        found = answerer.invoke(given)
        assert found["question"] == QUESTION and found["text"] == own.text
        assert found["probability"] == own.probability == found["answer"].probability
        weights = [(each.metadata["prior"], each.metadata["posterior"]) for each in found["passages"]]
        assert weights == [(each.prior, each.posterior) for each in own.passages]
    assert (answerer | itemgetter("text")).invoke(QUESTION) == own.text
    assert [each["text"] for each in answerer.batch([QUESTION, QUESTION])] == [own.text] * 2


def test_async_gives_the_same(rag: RAG) -> None:
    retriever, answerer = MixragRetriever(rag=rag), MixragAnswerer(rag=rag)

    async def both() -> tuple:
        return await asyncio.gather(retriever.ainvoke(QUESTION), answerer.ainvoke({"question": QUESTION}))

    documents, found = asyncio.run(both())
    assert documents == retriever.invoke(QUESTION)
    assert found["probability"] == answerer.invoke(QUESTION)["probability"]


def test_a_withheld_answer_is_no_text(withholding: RAG) -> None:
    found = MixragAnswerer(rag=withholding).invoke(QUESTION)
    assert found["answer"].abstains and found["text"] is None


def test_bad_input_is_one_line(rag: RAG) -> None:
    answerer = MixragAnswerer(rag=rag)
    for given in ({"query": "x"}, 3, {"question": 3}):
        with pytest.raises(QuestionError, match='under "question"') as caught:
            answerer.invoke(given)
        assert "\n" not in str(caught.value)
    for kind in (MixragRetriever, MixragAnswerer):
        with pytest.raises(PluginError, match="found str without ask, passages"):
            kind(rag="store")
    with pytest.raises(SettingError):
        MixragRetriever(rag=rag, settings={"width": 3}).invoke(QUESTION)
