"""``/v1/embeddings`` and ``/v1/rerank``: the store's encoder, and p(z | x) over given documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import openai
import pytest
from fastapi.testclient import TestClient
from served import QUESTION, TEXTS

from mixrag import RAG
from mixrag.corpus.splitters.tokens import ESTIMATED


def test_passages_and_questions_have_the_vectors_of_the_encoder(official: openai.OpenAI, rag: RAG) -> None:
    texts = [*TEXTS.values()]
    for form in ("float", "base64"):
        found = official.embeddings.create(model="demo", input=texts, encoding_format=form)  # type: ignore[arg-type]
        vectors = [_vector(each.embedding) for each in found.data]
        assert np.array_equal(
            vectors, rag.encoder.encode_passages([rag.encoder.passage_text("", t) for t in texts])
        )
    assert found.usage.prompt_tokens == sum(ESTIMATED.counts(texts))
    query = official.embeddings.create(model="demo", input=QUESTION, extra_body={"input_type": "query"})
    assert np.array_equal(_vector(query.data[0].embedding), rag.encoder.encode_questions([QUESTION])[0])
    dimensions = len(query.data[0].embedding)
    assert official.embeddings.create(model="demo", input=QUESTION, dimensions=dimensions).data


def _vector(embedding: Any) -> Any:
    if isinstance(embedding, str):
        import base64

        return np.frombuffer(base64.b64decode(embedding), dtype="<f4")
    return np.asarray(embedding, dtype=np.float32)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": " "}, "input"),
        ({"dimensions": 3}, "dimensions"),
        ({"input_type": "other"}, "input_type"),
    ],
)
def test_what_has_no_vector_is_refused(client: TestClient, changes: dict[str, Any], param: str) -> None:
    found = client.post("/v1/embeddings", json={"input": "cod", **changes})
    assert found.status_code == 400 and found.json()["error"]["param"].startswith(param)


def test_a_relevance_score_is_the_prior_over_the_documents_given(client: TestClient, rag: RAG) -> None:
    body = {"model": "demo", "query": QUESTION, "documents": [*TEXTS.values()], "return_documents": True}
    found = client.post("/v1/rerank", json=body).json()["results"]
    products = (
        rag.encoder.encode_passages([*TEXTS.values()]).astype(float) @ rag.encoder.encode_questions([QUESTION])[0]
    )
    weights = np.exp(products / rag.encoder.temperature)
    expected = weights / weights.sum()
    assert [each["index"] for each in found] == [*np.argsort(-expected)]
    assert [each["relevance_score"] for each in found] == pytest.approx(sorted(expected, reverse=True))
    assert found[0]["document"] == {"text": TEXTS["cod.txt"]}
    prior = {z.text: p for z, p in zip(*_prior(rag), strict=True)}
    assert {body["documents"][r["index"]]: r["relevance_score"] for r in found} == pytest.approx(prior, rel=1e-5)


def _prior(rag: RAG) -> tuple[Any, list[float]]:
    found = rag.passages(QUESTION, k=3)
    return found.passages, found.log_prior.exp().tolist()


def test_rerank_as_cohere_and_jina_ask_for_it(client: TestClient) -> None:
    body = {"query": QUESTION, "documents": [{"text": text} for text in TEXTS.values()], "top_n": 1}
    found = client.post("/v1/rerank", json=body).json()["results"]
    assert [(each["index"], "document" in each) for each in found] == [(0, False)]
    flat = client.post("/v1/rerank", json={**body, "settings": {"temperature": 1e6}}).json()["results"]
    assert flat[0]["relevance_score"] == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"documents": []}, {"query": ""}, {"query": " "}, {"top_n": 0}, {"settings": {"x": 1}}, {"documents": [1]}],
)
def test_a_malformed_rerank_is_refused(client: TestClient, changes: dict[str, Any]) -> None:
    found = client.post("/v1/rerank", json={"query": "cod", "documents": ["cod"], **changes})
    assert found.status_code == 400, found.text
