"""``/v1/answers``: the document of ``ask --json``, its citations, and its stream of events."""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from served import QUESTION, listening, wait_until
from sse_starlette.sse import AppStatus

from mixrag import RAG
from mixrag.answers.stream import Stream
from mixrag.server.app import make_app
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores


def ask(client: TestClient, **more: Any) -> Any:
    return client.post("/v1/answers", json={"question": QUESTION, **more})


def events(response: Any) -> list[tuple[str, Any]]:
    """Name and data of each event."""
    found = []
    for block in response.text.replace("\r\n", "\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_the_document_is_that_of_ask(client: TestClient, rag: RAG) -> None:
    found = ask(client).json()
    citations = found.pop("citations")
    assert found.pop("written") == QUESTION
    assert found == rag.ask(QUESTION).to_dict()
    assert found["answer"] == "nine crowns"
    best = max(found["passages"], key=lambda each: each["posterior"])
    first = citations[0]
    assert (first["passage"], first["text"], first["f1"]) == (best["id"], "nine crowns", 1.0)
    assert best["text"][first["start"] - best["start"] : first["end"] - best["start"]] == "nine crowns"


def test_settings_of_the_request_go_before_those_of_the_preset(client: TestClient) -> None:
    short = ask(client, model="demo:short").json()
    assert (short["best_guess"], short["finished"]) == ("nine", False)
    assert ask(client, model="demo:short", settings={"max_tokens": 6, "k": 1}).json()["answer"] == "nine crowns"
    assert len(ask(client, settings={"k": 1}).json()["passages"]) == 1


def test_the_explanation_has_the_prompts(client: TestClient, rag: RAG) -> None:
    found = ask(client, explain=True).json()
    why = rag.ask(QUESTION).explain().to_dict()
    assert found["why"] == why
    assert all(each["prompt"] for each in why["components"])


def test_a_follow_up_is_made_to_stand_alone(client: TestClient) -> None:
    found = client.post("/v1/answers", json={"question": "And for eel?", "earlier": [QUESTION]}).json()
    assert (found["question"], found["written"]) == ("What does a licence for eel cost?", "And for eel?")
    assert found["answer"] == "four crowns"
    body = {"question": "And for eel?", "earlier": [QUESTION], "stream": True}
    (_, retrieved), *_, (_, answer) = events(client.post("/v1/answers", json=body))
    assert retrieved["question"] == answer["question"] == "What does a licence for eel cost?"


def test_a_question_that_stands_alone_stays_as_it_is(client: TestClient) -> None:
    found = ask(client, earlier=["Who lays fewer eggs?"]).json()
    assert found["question"] == found["written"] == QUESTION


@pytest.mark.parametrize("earlier", [["x"] * 21, [""], ["x" * 20_001], "one", [1]])
def test_earlier_questions_have_limits(client: TestClient, earlier: Any) -> None:
    assert ask(client, earlier=earlier).status_code == 400


def test_without_a_passage_it_is_as_if_it_had_not_been_found(client: TestClient, rag: RAG) -> None:
    whole = ask(client).json()
    cod = whole["passages"][0]
    found = ask(client, without=[cod["id"]]).json()
    assert (whole["answer"], found["answer"]) == ("nine crowns", "four crowns")
    assert [each["id"] for each in found["passages"]] == [each["id"] for each in whole["passages"][1:]]
    assert sum(each["prior"] for each in found["passages"]) == pytest.approx(1.0)
    again = rag.ask(QUESTION, without={cod["id"]}).scored.mixture.log_prob("nine crowns")
    assert math.exp(again) == pytest.approx(cod["p_without"])


def test_what_is_left_out_is_a_passage_and_not_all_of_them(client: TestClient) -> None:
    ids = [each["id"] for each in ask(client).json()["passages"]]
    for without in (["none of them"], ids, ["x" * 1001]):
        refused = ask(client, without=without)
        assert refused.status_code == 400, refused.text
    assert (
        ask(client, without=["none of them"]).json()["error"]["message"].startswith("expected an id of a passage")
    )


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_events_are_passages_tokens_and_the_answer(client: TestClient, decoder: str) -> None:
    response = ask(client, stream=True, explain=True, settings={"decoder": decoder, "abstain_below": 0.0})
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response)
    names = [name for name, _ in found]
    tokens = [data for name, data in found if name == "token"]
    answer = found[-1][1]
    assert names == ["passages", *["token"] * len(answer["tokens"]), "answer"]
    assert "".join(each["text"] for each in tokens) == answer["best_guess"] == "nine crowns"
    assert [each["log_prob"] for each in tokens] == pytest.approx([each["log_prob"] for each in answer["tokens"]])
    assert all(len(each["posterior"]) == len(answer["passages"]) for each in tokens)
    assert [each["prior"] for each in found[0][1]["passages"]] == [each["prior"] for each in answer["passages"]]
    whole = ask(client, explain=True, settings={"decoder": decoder, "abstain_below": 0.0}).json()
    counts = [document["why"].pop("prefix_cache") for document in (answer, whole)]
    assert answer == whole and len(counts) == 2


def test_a_withheld_answer_has_no_tokens_before_or_after(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixrag.answers.stream.Stream.may_abstain", property(lambda _: True))
    monkeypatch.setattr("mixrag.answers.fields.AnswerFields.abstains", property(lambda _: True))
    found = events(ask(client, stream=True, settings={"decoder": "greedy"}))
    assert [name for name, _ in found] == ["passages", "answer"]
    assert found[-1][1]["answer"] is None and found[-1][1]["best_guess"] == "nine crowns"


def test_tokens_that_might_have_been_withheld_come_once_it_is_decided(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixrag.answers.stream.Stream.may_abstain", property(lambda _: True))
    names = [name for name, _ in events(ask(client, stream=True, settings={"decoder": "greedy"}))]
    assert names[0] == "passages" and names[-1] == "answer" and names.count("token") > 1


def test_an_error_while_it_is_written_is_the_last_event(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr("mixrag.answers.answer.Answer.to_dict", broken)
    response = ask(client, stream=True)
    name, data = events(response)[-1]
    assert (name, data["error"]["code"]) == ("error", "internal_error")
    assert "secret" not in response.text
    assert ask(client).status_code == 500


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"question": ""}, 400),
        ({"question": "  "}, 400),
        ({"question": "x" * 20_001}, 400),
        ({"question": QUESTION, "model": "other"}, 404),
        ({"question": QUESTION, "settings": {"k": -1}}, 400),
        ({"question": QUESTION, "settings": {"k": 1e300}}, 400),
        ({"question": QUESTION, "settings": {"temperature": [1]}}, 400),
        ({"question": QUESTION, "settings": {"colour": 1}}, 400),
        ({"question": QUESTION, "settings": {"where": {"document": "none"}}}, 409),
        ({"question": QUESTION, "colour": 1}, 400),
        ({"question": QUESTION, "stream": "perhaps"}, 400),
        ({"question": 7}, 400),
        ({}, 400),
        ([], 400),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests(client: TestClient, body: Any, status: int, stream: bool) -> None:
    if isinstance(body, dict):
        body = {"stream": stream, **body}
    found = client.post("/v1/answers", json=body)
    assert found.status_code == status, found.text
    assert set(found.json()["error"]) == {"message", "type", "param", "code"}


def test_a_stream_ends_with_its_answer_where_the_server_is_told_to_stop(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, run = threading.Event(), Stream._run

    def waiting(stream: Stream) -> Iterator[Any]:
        released.wait()
        yield from run(stream)

    monkeypatch.setattr(Stream, "_run", waiting)
    body = {"question": QUESTION, "stream": True}
    with httpx.stream("POST", f"{address}/v1/answers", json=body, timeout=60) as response:
        lines = response.iter_lines()
        assert next(lines) == "event: passages"
        monkeypatch.setattr(AppStatus, "should_exit", True)  # as the signal does; streams look twice a second
        time.sleep(1.5)
        released.set()
        assert "event: answer" in list(lines)


HEADERS = {"Content-Type": "application/json"}
BODIES = {
    "/v1/answers": {"question": QUESTION, "settings": {"decoder": "greedy"}},
    "/v1/chat/completions": {"model": "demo:greedy", "messages": [{"role": "user", "content": QUESTION}]},
    "/v1/responses": {"model": "demo:greedy", "input": QUESTION},
    "/v1/completions": {"model": "demo:greedy", "prompt": QUESTION},
}


@pytest.mark.parametrize("path", BODIES)
def test_a_client_that_goes_away_ends_the_work(rag: RAG, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    service = Service(Stores([Served("demo", rag, {"greedy": {"decoder": "greedy"}})]))
    begun, closed = list[Any](), list[Any]()
    close = Stream.close
    whole = list(rag.stream(QUESTION, decoder="greedy"))

    def endless(stream: Stream) -> Iterator[Any]:
        begun.append(stream)
        while True:
            yield whole[0]

    def noted(stream: Stream) -> None:
        closed.append(stream)
        close(stream)

    monkeypatch.setattr(Stream, "_run", endless)
    monkeypatch.setattr(Stream, "close", noted)
    with listening(make_app(service)) as address:
        for stream in (True, False):
            connection = http.client.HTTPConnection(address.removeprefix("http://"))
            connection.request("POST", path, json.dumps({**BODIES[path], "stream": stream}), HEADERS)
            wait_until(lambda: len(begun) == 1)
            connection.close()
            wait_until(lambda: begun[0] in closed and service.questions.running == 0)
            begun.clear()
