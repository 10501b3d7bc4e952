"""Chat with a language model behind a server that gives text alone, or next tokens in lists."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from served import QUESTION

from mixrag import RAG
from mixrag.answers.bounded import IntervalAnswer, IntervalComponent
from mixrag.answers.written import WrittenAnswer, WrittenComponent
from mixrag.generator.remote.capabilities import Capabilities

CHAT = {"messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture(params=["text", "interval"])
def remote(request: pytest.FixtureRequest, rag: RAG, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two passages were read; the first one wrote the answer."""
    cod, eel, *_ = rag.passages(QUESTION).passages

    def write(*_: Any, **__: Any) -> WrittenAnswer | IntervalAnswer:
        if request.param == "text":
            components = (
                WrittenComponent((cod.id,), (cod.title,), 0.6, "Nine crowns.", True),
                WrittenComponent((eel.id,), (eel.title,), 0.3, "Four crowns.", True),
                WrittenComponent((), (), 0.1, "nine  crowns.", True),
            )
            return WrittenAnswer(QUESTION, "Nine crowns.", components, "m")
        bounded = (
            IntervalComponent((cod.id,), (cod.title,), 0.6, (0.9, 1.0)),
            IntervalComponent((eel.id,), (eel.title,), 0.4, (0.0, 0.1)),
        )
        return IntervalAnswer(QUESTION, "Nine crowns.", (-1.0, -0.5), True, True, False, bounded, (1, 2, 3), "m")

    monkeypatch.setattr("mixrag.rag.RAG.server", Capabilities(server="some server", model="m"))
    monkeypatch.setattr("mixrag.rag.RAG.write", write)
    return str(request.param)


def test_a_chat_says_that_it_has_no_probability(client: TestClient, rag: RAG, remote: str) -> None:
    found = client.post("/v1/chat/completions", json={**CHAT, "logprobs": True}).json()
    choice, extension = found["choices"][0], found["mixrag"]
    assert (choice["message"]["content"], choice["logprobs"], choice["finish_reason"]) == (
        "Nine crowns.",
        None,
        "stop",
    )
    assert extension["probability"] is None and extension["no_probability"] and extension["confidence"] is None
    assert (extension.get("log_interval") == [-1.0, -0.5]) == (remote == "interval")
    assert all(each["posterior"] is None for each in extension["passages"])
    assert [each["url_citation"]["title"] for each in choice["message"]["annotations"]] == ["cod"]
    assert found["usage"]["completion_tokens"] == (3 if remote == "interval" else 0)
    text = client.post("/v1/chat/completions", json={**CHAT, "stream": True}).text
    chunks = [json.loads(each[6:]) for each in text.splitlines() if each.startswith("data: {")]
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == "Nine crowns."


def test_responses_have_the_prior_as_their_score(client: TestClient, rag: RAG, remote: str) -> None:
    body = {"input": QUESTION, "include": ["file_search_call.results"]}
    search, message = client.post("/v1/responses", json=body).json()["output"]
    priors = rag.passages(QUESTION).log_prior.exp().tolist()
    assert [each["score"] for each in search["results"]] == priors
    assert message["content"][0]["text"] == "Nine crowns."
    assert "response.completed" in client.post("/v1/responses", json={**body, "stream": True}).text


def test_completions_answer_and_refuse_to_score(client: TestClient, remote: str) -> None:
    found = client.post("/v1/completions", json={"prompt": QUESTION, "logprobs": 1}).json()["choices"][0]
    assert (found["text"], found["logprobs"]) == ("Nine crowns.", None)
    refused = client.post("/v1/completions", json={"prompt": f"{QUESTION}\nnine", "echo": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_setting")
