"""``/health``, ``/metrics``, spans, and the pages that describe the endpoints."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from threading import Event
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from served import QUESTION, wait_until

from mixrag import RAG
from mixrag.config.model_config import ModelConfig
from mixrag.errors import ModelError, StoreError
from mixrag.retrieval.index import choice
from mixrag.retrieval.lexical import opening
from mixrag.server.app import make_app
from mixrag.server.native.health import load_models
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores


def ask(client: TestClient, **more: Any) -> Any:
    return client.post("/v1/answers", json={"question": QUESTION, **more})


def test_health(client: TestClient, rag: RAG, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/health").json()["status"] == "ok"
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["stores"]) == (200, {"demo": "ready"})
    monkeypatch.setattr(rag, "_generator", None)
    waiting = client.get("/health/ready")
    assert (waiting.status_code, waiting.json()["status"]) == (503, "loading")


def test_models_that_cannot_be_loaded_are_said_to_be(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: RAG) -> None:
        raise ModelError("a model", "none", "install it")

    monkeypatch.setattr(RAG, "make_ready", refuse)
    monkeypatch.setattr(RAG, "is_ready", False)
    asyncio.run(load_models(service))
    with TestClient(make_app(service), base_url="http://127.0.0.1") as client:
        found = client.get("/health/ready")
    assert (found.status_code, found.json()) == (503, {"status": "failed", "stores": {"demo": "failed"}})


def test_a_store_is_ready_when_its_index_is_open(
    service: Service, rag: RAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is built before any question; until then the store is loading, though its models are there."""
    monkeypatch.setattr(choice, "FLAT_LIMIT", 1)
    monkeypatch.setattr(opening, "FILE_LIMIT", 1)
    begun, go_on, real = Event(), Event(), choice.open_persistent

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return real(*arguments)

    monkeypatch.setattr(choice, "open_persistent", slow)
    with TestClient(make_app(service), base_url="http://127.0.0.1") as client:
        try:
            assert begun.wait(60) and rag.is_loaded
            assert client.get("/health/ready").json() == {"status": "loading", "stores": {"demo": "loading"}}
        finally:
            go_on.set()
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        written = rag.store.cache_directory
        assert (written / "index" / "index.json").exists() and (written / "words" / "words.json").exists()
        monkeypatch.setattr(choice, "open_persistent", None)  # the question finds it open
        assert ask(client).status_code == 200


def test_an_index_that_cannot_be_opened_is_said_to_be(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise StoreError("room for an index", "none", "make some")

    monkeypatch.setattr("mixrag.retrieval.snapshots.open_index", refuse)
    with TestClient(make_app(service), base_url="http://127.0.0.1") as client:
        wait_until(lambda: client.get("/health/ready").json()["status"] == "failed")
        assert client.get("/health/ready").json()["stores"] == {"demo": "failed"}


SECRET = "no-such-folder-of-models"


@pytest.fixture
def broken(rag: RAG) -> Iterator[TestClient]:
    """A client of a server whose language model is not where it was said to be."""
    models = ModelConfig(generator=f"./{SECRET}")
    service = Service(Stores([Served("demo", RAG(rag.store, encoder=rag.encoder, models=models))]))
    with TestClient(make_app(service), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/answers", {"question": QUESTION}),
        ("/v1/answers", {"question": QUESTION, "stream": True}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}], "stream": True}),
        ("/v1/responses", {"input": QUESTION}),
        ("/v1/completions", {"prompt": f"{QUESTION}\nnine", "echo": True}),
        ("/v1/score", {"question": QUESTION, "answer": "nine"}),
        ("/v1/decisions", {"question": QUESTION}),
        ("/v1/diagnose", {"question": QUESTION, "expected": ["nine"]}),
    ],
)
def test_without_its_model_a_store_is_unavailable_and_only_the_log_says_where_it_was(
    broken: TestClient, caplog: pytest.LogCaptureFixture, path: str, body: dict[str, Any]
) -> None:
    found = broken.post(path, json=body)
    assert (found.status_code, found.json()["error"]["code"]) == (503, "model_not_loaded")
    assert SECRET not in found.text and "see the server's log" in found.json()["error"]["message"]
    assert any(SECRET in each.getMessage() for each in caplog.records)
    assert broken.post("/v1/passages", json={"question": QUESTION}).status_code == 200


def test_without_its_model_a_tool_fails_in_one_line(broken: TestClient) -> None:
    call = {"name": "ask", "arguments": {"question": QUESTION}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    found = broken.post("/mcp", json=body, headers={"Accept": "application/json, text/event-stream"})
    assert found.json()["result"]["isError"] and SECRET not in found.text


def test_what_a_model_cannot_do_is_the_requests_fault(client: TestClient) -> None:
    found = ask(client, settings={"question_likelihood": 1.0})
    assert (found.status_code, found.json()["error"]["code"]) == (400, "invalid_for_model")


def figures(client: TestClient) -> dict[str, float]:
    """Name with labels, and value, of each line."""
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_figures(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    store = 'model_name="demo"'
    before = figures(client)
    assert before[f'mixrag:answers_total{{{store},outcome="answered"}}'.replace("{model", "{model")] == 0.0
    assert before["mixrag:num_requests_running"] == before["mixrag:num_requests_waiting"] == 0.0
    tokens = len(ask(client).json()["tokens"])
    ask(client, stream=True, settings={"decoder": "greedy"})
    ask(client, model="demo:short")
    ask(client, settings={"where": {"document": "none"}})
    monkeypatch.setattr("mixrag.answers.fields.AnswerFields.abstains", property(lambda _: True))
    ask(client)
    after = figures(client)
    outcomes = {
        outcome: after[f'mixrag:answers_total{{{store},outcome="{outcome}"}}']
        for outcome in ("answered", "withheld", "cut_off")
    }
    assert outcomes == {"answered": 2.0, "withheld": 1.0, "cut_off": 1.0}
    assert after[f"mixrag:e2e_request_latency_seconds_count{{{store}}}"] == 4.0
    assert after[f"mixrag:time_to_first_token_seconds_count{{{store}}}"] == 4.0
    assert after[f"mixrag:generation_tokens_total{{{store}}}"] == 3 * tokens + 1
    assert after[f'mixrag:request_failures_total{{error="StoreEmptyError",{store}}}'] == 1.0
    assert after["mixrag:num_requests_running"] == 0.0
    assert not any("python_" in name or "process_" in name for name in after)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans of an SDK that is set up, for this test alone."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", lambda name: provider.get_tracer(name))
    yield exporter
    provider.shutdown()


def test_spans(spans: InMemorySpanExporter, service: Service) -> None:
    with TestClient(make_app(service), base_url="http://127.0.0.1") as client:
        ask(client)
        ask(client, settings={"where": {"document": "none"}})
    good, bad = (attributes(span) for span in spans.get_finished_spans())
    assert [span.name for span in spans.get_finished_spans()] == ["chat demo", "chat demo"]
    assert (good["gen_ai.operation.name"], good["gen_ai.provider.name"]) == ("chat", "mixrag")
    assert (good["gen_ai.request.model"], good["gen_ai.request.max_tokens"]) == ("demo", 6)
    assert good["gen_ai.response.finish_reasons"] == ("stop",) and good["gen_ai.usage.output_tokens"] == 3
    assert (good["mixrag.outcome"], good["mixrag.passages"]) == ("answered", 3)
    assert bad["error.type"] == "StoreEmptyError"
    assert "crowns" not in str((good, bad)) and "licence" not in str((good, bad))


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_every_endpoint_is_described_with_examples(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    endpoints = [each for methods in description["paths"].values() for each in methods.items()]
    assert len(endpoints) >= 20
    for method, operation in endpoints:
        assert operation["description"]
        contents = [operation["responses"]["200"]["content"]]
        if method == "post":
            contents.append(operation["requestBody"]["content"])
        for each in contents:
            if "multipart/form-data" not in each:  # a file cannot be written here
                assert all("example" in kind or "examples" in kind for kind in each.values()), (operation, each)


def test_examples_of_requests_are_requests(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    for path, methods in description["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in body.get("examples", {}).items():
            if path.startswith(("/v1/answers", "/v1/passages", "/v1/score", "/v1/diagnose")):
                found = client.post(path, json={**example["value"], "model": "demo"})
                assert found.status_code == 200, (path, name, found.text)


def test_examples_of_responses_have_keys_that_are_there(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]
    for path, more in ENDPOINTS.items():
        operation = described[path]["get" if more is None else "post"]
        example = operation["responses"]["200"]["content"]["application/json"]["example"]
        found = client.get(path) if more is None else client.post(path, json={"question": QUESTION, **more})
        assert_known({key: value for key, value in example.items() if key != "presets"}, found.json(), path)


ENDPOINTS: dict[str, dict[str, Any] | None] = {
    "/v1/answers": {},
    "/v1/passages": {},
    "/v1/score": {"answer": "nine crowns"},
    "/v1/decisions": {"labels": ["nine crowns", "four crowns"]},
    "/v1/diagnose": {"expected": ["four crowns"]},
    "/v1/documents": None,
    "/v1/settings": None,
    "/v1/models": None,
    "/health": None,
}
"""What is asked of each, beside the question; None where nothing is sent."""


def assert_known(example: Any, found: Any, path: str) -> None:
    """All keys of an example are there, in the first elements of lists too."""
    if isinstance(example, dict) and isinstance(found, dict):
        assert set(example) <= set(found), path
        for key in example:
            assert_known(example[key], found[key], path)
    if isinstance(example, list) and isinstance(found, list) and example and found:
        assert_known(example[0], found[0], path)


class Page(HTMLParser):
    """The elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.names: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            if name in ("href", "src"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.add(value or "")
            assert not name.startswith("on") and name != "style"


def test_the_page_of_endpoints_loads_nothing_from_elsewhere(client: TestClient) -> None:
    response = client.get("/docs")
    page = Page()
    page.feed(response.text)
    assert response.headers["content-type"].startswith("text/html")
    assert not page.names & {"script", "iframe", "img", "style"}
    for address in page.addresses:
        if address.startswith("#"):
            assert address[1:] in page.ids
        else:
            assert client.get(address).status_code == 200
            assert address.startswith("/") and not address.startswith("//")
    style = client.get("/docs/style.css")
    assert style.headers["content-type"].startswith("text/css") and not re.search(r"@import|url\(", style.text)
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in response.text
    assert json.dumps(QUESTION)[1:-1] in response.text


def test_the_page_escapes_what_it_shows(client: TestClient) -> None:
    found = client.get("/docs", headers={"Host": "127.0.0.1"})
    assert "<b>" not in found.text and "&#34;question&#34;" in found.text
