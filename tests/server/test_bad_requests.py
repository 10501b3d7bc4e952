"""Bad requests to every endpoint, over a connection: a status of the client, one line, and the server goes on."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from served import QUESTION, listening, wait_until

from mixrag.server.app import make_app
from mixrag.server.questions import Limits, Questions
from mixrag.server.security.policy import MIB, Security
from mixrag.server.service import Service
from mixrag.server.serving import configured

QUESTIONS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": QUESTION}]},
    "/v1/responses": {"input": QUESTION},
    "/v1/completions": {"prompt": QUESTION},
    "/v1/embeddings": {"input": QUESTION},
    "/v1/rerank": {"query": QUESTION, "documents": ["A licence to fish cod."]},
    "/v1/answers": {"question": QUESTION},
    "/v1/passages": {"question": QUESTION},
    "/v1/score": {"question": QUESTION, "answer": "nine crowns"},
    "/v1/diagnose": {"question": QUESTION, "expected": ["nine crowns"]},
    "/v1/decisions": {"question": QUESTION, "labels": ["nine crowns", "four crowns"]},
}
"""A good request to each endpoint that takes a question."""
LONG = "why? " * 2_000_000


@pytest.fixture
def served(service: Service) -> Iterator[httpx.Client]:
    """A client of the server as ``mixrag serve`` runs it, which takes requests of 64 MiB."""
    security = Security(request_bytes=64 * MIB)
    app = make_app(service, security)
    config = configured(app, security)
    config.port = 0
    with listening(app, config) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def refused(response: httpx.Response, *statuses: int) -> None:
    assert response.status_code in statuses, (response.request.url.path, response.text[:300])
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"] and len(error["message"]) < 2000


def sent(address: str, path: str) -> socket.socket:
    """A connection on which a whole good request has been sent."""
    host, port = address.removeprefix("http://").split(":")
    body = json.dumps(QUESTIONS[path]).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection((host, int(port)))
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def replaced(value: Any, by: Any) -> Any:
    """A request with something else in the place of its question."""
    if isinstance(value, dict):
        return {name: replaced(each, by) for name, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, by) for each in value]
    return by if value == QUESTION else value


def test_every_endpoint_with_a_question_is_here(service: Service) -> None:
    paths = make_app(service).openapi()["paths"]
    posted = {path for path, operations in paths.items() if "post" in operations}
    of_shards = {path for path in posted if path.startswith("/v1/shard/")}  # tests/shards/test_shard_endpoints.py
    assert posted - of_shards == {*QUESTIONS, "/v1/documents"}


@pytest.mark.parametrize("path", QUESTIONS)
def test_bad_requests_are_refused_and_the_next_is_answered(served: httpx.Client, path: str) -> None:
    good, kind = QUESTIONS[path], {"Content-Type": "application/json"}
    for content in (
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        json.dumps(good).encode("utf-16"),
        b"[" * 100_000,
    ):
        refused(served.post(path, content=content, headers=kind), 400)
    for wrong in (None, 3, True, {}, {"a": []}, "", " ", "\ud800", LONG):
        body = json.dumps(replaced(good, wrong)).encode()
        refused(served.post(path, content=body, headers=kind), 400)
    for model in ("other", "demo:other", "../demo", "", LONG[:5000]):
        refused(served.post(path, json={**good, "model": model}), 400, 404)
    for model in (3, [], {}, True):
        refused(served.post(path, json={**good, "model": model}), 400)
    for text in ("1e400", "-1", "9" * 4000, "9" * 5000, "NaN", '"many"', "null"):
        settings = f'{json.dumps(good)[:-1]}, "settings": {{"k": {text}}}}}'
        found = served.post(path, content=settings, headers=kind)
        if path not in ("/v1/embeddings", "/v1/rerank") or text in ("NaN", "9" * 5000):  # else they take none
            refused(found, 400)
    found = served.post(path, json=good)
    assert found.status_code == 200, found.text


@pytest.mark.parametrize("path", QUESTIONS)
def test_a_client_that_leaves_while_it_waits_leaves_no_work(
    service: Service, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The one place is taken; its request is in the queue, and is not there any more once its client has gone."""
    held, begun = threading.Event(), threading.Event()
    questions = Questions(Limits(threads=1))
    monkeypatch.setattr("mixrag.server.app.load_models", lambda _: asyncio.sleep(0))
    app = make_app(Service(service.stores, questions))

    @app.post("/hold")
    async def hold() -> bool:
        return await questions.run(lambda: begun.set() or held.wait())

    with listening(app) as address, ThreadPoolExecutor(1) as threads:
        holding = threads.submit(httpx.post, f"{address}/hold", timeout=None)
        begun.wait()
        with sent(address, path):
            wait_until(lambda: questions.waiting == 1)
        wait_until(lambda: questions.waiting == 0)
        assert questions.running == 1
        held.set()
        assert holding.result().json() is True
        wait_until(lambda: questions.running == 0)


def test_a_client_that_leaves_a_stream_does_not_stop_the_server(served: httpx.Client) -> None:
    for path in ("/v1/answers", "/v1/chat/completions", "/v1/responses"):
        for _ in range(5):
            with served.stream("POST", path, json={**QUESTIONS[path], "stream": True}) as response:
                assert response.status_code == 200
                next(response.iter_bytes())
    assert served.post("/v1/answers", json=QUESTIONS["/v1/answers"]).status_code == 200


def test_what_a_client_leaves_is_no_question_under_way(served: httpx.Client, service: Service) -> None:
    with served.stream("POST", "/v1/answers", json={"question": QUESTION, "stream": True}) as response:
        next(response.iter_bytes())
    wait_until(lambda: service.questions.running == 0)
