"""``/v1/passages``, ``/v1/score``, ``/v1/diagnose`` and ``/v1/decisions``: the documents of the commands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from served import QUESTION

from mixrag import RAG
from mixrag.answers.answer import retrieval_to_dict
from mixrag.evaluation import diagnose
from mixrag.generator.remote.capabilities import Capabilities


def test_passages(client: TestClient, rag: RAG) -> None:
    found = client.post("/v1/passages", json={"question": QUESTION, "settings": {"k": 2, "null": 0.5}}).json()
    settings = replace(rag.settings, k=2, null=0.5)
    assert found == retrieval_to_dict(QUESTION, rag.passages(QUESTION, k=2, null=0.5), settings)
    assert len(found["passages"]) == 2 and found["null"] is not None


def test_score(client: TestClient, rag: RAG) -> None:
    found = client.post("/v1/score", json={"question": QUESTION, "answer": "four crowns"}).json()
    assert {key: found[key] for key in found if key != "citations"} == rag.score(QUESTION, "four crowns").to_dict()
    assert found["citations"][0]["text"] == "four crowns"
    assert client.post("/v1/score", json={"question": QUESTION}).status_code == 400


def test_the_probability_of_an_impossible_answer_is_null_in_logarithms(client: TestClient) -> None:
    found = client.post("/v1/score", json={"question": QUESTION, "answer": "crowns nine"}).json()
    assert (found["log_prob"], found["probability"]) == (None, 0.0)


def test_decision(client: TestClient, rag: RAG) -> None:
    labels = ["nine crowns", "four crowns"]
    found = client.post("/v1/decisions", json={"question": QUESTION, "labels": labels}).json()
    assert found == rag.decide(QUESTION, labels).to_dict()
    assert found["label"] == "nine crowns"
    for refused in ([], ["nine crowns"], ["nine crowns", "nine crowns"], ["", "four crowns"], "nine crowns", None):
        assert client.post("/v1/decisions", json={"question": QUESTION, "labels": refused}).status_code == 400


def test_diagnosis(client: TestClient, rag: RAG) -> None:
    body = {"question": QUESTION, "expected": ["four crowns"], "document": "eel.txt"}
    found = client.post("/v1/diagnose", json=body)
    assert found.json() == diagnose(rag, QUESTION, ["four crowns"], document="eel.txt").as_dict()
    assert found.json()["failed"] in found.json()["stages"]
    for expected in ([], [""], ["  "], "four crowns", None):
        refused = client.post("/v1/diagnose", json={"question": QUESTION, "expected": expected})
        assert refused.status_code == 400, refused.text


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/score", {"answer": "nine crowns"}),
        ("/v1/diagnose", {"expected": ["nine crowns"]}),
        ("/v1/decisions", {"labels": ["nine crowns", "four crowns"]}),
        ("/v1/answers", {"explain": True}),
    ],
)
def test_what_a_server_of_text_alone_cannot_give_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, more: dict[str, Any]
) -> None:
    monkeypatch.setattr("mixrag.rag.RAG.server", TEXT_ALONE)
    found = client.post(path, json={"question": QUESTION, **more})
    assert (found.status_code, found.json()["error"]["code"]) == (400, "invalid_setting")
    assert "text alone" in found.json()["error"]["message"]


TEXT_ALONE = Capabilities(server="some server", model="m")


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_server_of_text_alone_writes_is_passed_on(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    class Written:
        def to_dict(self) -> dict[str, Any]:
            return {"answer": "some text", "probability": None}

    monkeypatch.setattr("mixrag.rag.RAG.server", TEXT_ALONE)
    monkeypatch.setattr("mixrag.rag.RAG.write", lambda *_, **changes: Written())
    found = client.post("/v1/answers", json={"question": QUESTION, "stream": stream})
    assert found.status_code == 200
    assert '"some text"' in found.text and found.text.startswith("event: answer" if stream else "{")
