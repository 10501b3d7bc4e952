"""mixrag in LlamaIndex: in its own query engine, and as one."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.llms.mock import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine

from integrations.conftest import QUESTION, TEXTS, examples_of
from mixrag import RAG
from mixrag.errors import PluginError, QuestionError
from mixrag.integrations import llama_index
from mixrag.integrations.llama_index import MixragQueryEngine, MixragRetriever


def test_the_examples_of_the_module(rag: RAG) -> None:
    assert examples_of(llama_index, rag) >= 5


def test_the_score_of_a_node_is_its_prior(rag: RAG) -> None:
    nodes = MixragRetriever(rag, {"k": 2}).retrieve(QUESTION)
    own = rag.passages(QUESTION, k=2)
    assert [node.score for node in nodes] == own.log_prior.exp().tolist()
    assert [node.node_id for node in nodes] == [passage.id for passage in own.passages]
    assert [node.text for node in nodes] == [TEXTS["cod.txt"], TEXTS["eel.txt"]]
    assert nodes[0].metadata["start"] == 0 and nodes[0].metadata["end"] == len(TEXTS["cod.txt"])


def test_a_retriever_stands_in_a_query_engine_of_llama_index(rag: RAG) -> None:
    engine = RetrieverQueryEngine.from_args(MixragRetriever(rag, {"k": 1}), llm=MockLLM())
    response = engine.query(QUESTION)
    assert [node.text for node in response.source_nodes] == [TEXTS["cod.txt"]]
    # The mock returns its prompt: the passage is in it with its title, without path, offsets and prior.
    assert TEXTS["cod.txt"] in response.response and "title: cod" in response.response
    assert not any(f"{key}:" in response.response for key in ("prior", "start", "document"))


def test_the_engine_answers_with_probability_and_sources(rag: RAG) -> None:
    own = rag.ask(QUESTION, k=2)
    response = MixragQueryEngine(rag=rag, settings={"k": 2}).query(QUESTION)
    assert str(response) == own.text
    assert response.metadata["probability"] == own.probability and response.metadata["withheld"] is False
    assert [node.score for node in response.source_nodes] == [each.prior for each in own.passages]
    assert [node.metadata["posterior"] for node in response.source_nodes] == [
        each.posterior for each in own.passages
    ]


def test_async_gives_the_same(rag: RAG) -> None:
    retriever, engine = MixragRetriever(rag), MixragQueryEngine(rag=rag)

    async def both() -> tuple:
        return await asyncio.gather(retriever.aretrieve(QUESTION), engine.aquery(QUESTION))

    nodes, response = asyncio.run(both())
    assert nodes == retriever.retrieve(QUESTION)
    assert response.metadata == engine.query(QUESTION).metadata


def test_a_withheld_answer_says_so(withholding: RAG) -> None:
    response = MixragQueryEngine(rag=withholding).query(QUESTION)
    assert response.response == "No answer: the confidence 0.12 is below the threshold 0.50."
    assert response.metadata["withheld"] is True and response.metadata["best_guess"]


def test_bad_input_is_one_line(rag: RAG) -> None:
    with pytest.raises(PluginError, match="found str without ask, passages"):
        MixragRetriever("store")
    with pytest.raises(PluginError, match="found str without ask, passages"):
        MixragQueryEngine(rag="store")
    with pytest.raises(QuestionError):
        MixragQueryEngine(rag=rag).query(" ")
