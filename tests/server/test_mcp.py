"""MCP by its official client, over HTTP and in process: tools, documents, errors in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from fastapi.testclient import TestClient
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from served import listening

from mixrag import RAG, Settings
from mixrag.server import mcp_documents
from mixrag.server.app import make_app
from mixrag.server.mcp import mcp_server
from mixrag.server.mcp_documents import Wanted, document_uri, wanted_by
from mixrag.server.security.keys import KeyFile
from mixrag.server.security.policy import Security
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from scripted import scripted
from words_encoder import WordsEncoder

QUESTION = "What does a licence for cod cost?"


def within(service: Service, use: Any) -> Any:
    async def run() -> Any:
        async with Client(mcp_server(service)) as client:
            return await use(client)

    return anyio.run(run)


def called(service: Service, name: str, **arguments: Any) -> Any:
    return within(service, lambda client: client.call_tool(name, arguments))


def result(service: Service, name: str, **arguments: Any) -> dict[str, Any]:
    found = called(service, name, **arguments)
    assert not found.is_error, found.content
    assert json.loads(found.content[0].text) == found.structured_content
    return found.structured_content


def failed(service: Service, name: str, **arguments: Any) -> str:
    found = called(service, name, **arguments)
    assert found.is_error and found.structured_content is None
    (content,) = found.content
    assert "\n" not in content.text and content.text.startswith("expected ")
    return content.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_all_of_it_over_http(address: str, mode: str, rag: RAG) -> None:
    async def use() -> None:
        async with Client(f"{address}/mcp", mode=mode) as client:
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == ["ask", "passages", "score", "decide", "diagnose"]
            for tool in tools:
                assert tool.description and tool.output_schema and tool.annotations.read_only_hint
                properties = tool.input_schema["properties"]
                assert all(each.get("description") for each in properties.values())
            asked = await client.call_tool("ask", {"question": QUESTION})
            assert asked.structured_content["answer"] == "nine crowns"
            listed = (await client.list_resources()).resources
            assert [each.name for each in listed] == ["cod.txt", "eel.txt", "hen.txt"]
            read = await client.read_resource(asked.structured_content["sources"][0]["document"])
            assert read.contents[0].text == "A licence to fish cod costs nine crowns a year."

    anyio.run(use)


def test_ask_says_how_sure_it_is_and_quotes_its_sources(service: Service, rag: RAG) -> None:
    found, answer = result(service, "ask", question=QUESTION), rag.ask(QUESTION)
    assert (found["answer"], found["withheld"], found["best_guess"]) == (answer.text, False, None)
    assert found["probability"] == pytest.approx(answer.probability) and found["confidence"] is None
    assert "no confidence is fitted" in found["how_sure"]
    first = found["sources"][0]
    assert (first["file"], first["sentence"]) == ("cod.txt", "A licence to fish cod costs nine crowns a year.")
    assert first["holds_answer"] and first["posterior"] == pytest.approx(answer.passages[0].posterior)


def test_a_withheld_answer_is_null_and_its_guess_only_where_asked_for(rag: RAG) -> None:
    silent = scripted({"cod": {"": 0.9, "nine crowns": 0.1}, "": {"": 0.9}})
    settings = Settings(max_tokens=6, empty_answer=True)
    service = Service(
        Stores([Served("demo", RAG(rag.store, encoder=WordsEncoder(), generator=silent, settings=settings))])
    )
    found = result(service, "ask", question=QUESTION)
    assert (found["answer"], found["withheld"]) == (None, True)
    assert found["best_guess"] is None and found["probability"] is None
    assert found["how_sure"] == "the documents do not seem to state it" and found["not_stated"] > 0.8
    assert found["sources"] and not any(each["holds_answer"] for each in found["sources"])
    guess = result(service, "ask", question=QUESTION, best_guess=True)
    assert (guess["answer"], guess["best_guess"]) == (None, "nine crowns") and guess["probability"] > 0


def test_passages_score_decide_and_diagnose_are_those_of_the_library(service: Service, rag: RAG) -> None:
    passages = result(service, "passages", question=QUESTION, k=2)["passages"]
    expected = rag.passages(QUESTION, k=2)
    assert [each["prior"] for each in passages] == pytest.approx(expected.log_prior.exp().tolist())
    assert [each["text"] for each in passages] == [each.text for each in expected.passages]
    score = result(service, "score", question=QUESTION, answer="four crowns")
    assert score["probability"] == pytest.approx(rag.score(QUESTION, "four crowns").probability)
    labels = ["nine crowns", "four crowns"]
    decided, decision = result(service, "decide", question=QUESTION, labels=labels), rag.decide(QUESTION, labels)
    assert (decided["label"], decided["mass"]) == ("nine crowns", pytest.approx(decision.mass))
    assert [each["probability"] for each in decided["labels"]] == pytest.approx(
        [each.probability for each in decision.labels]
    )
    diagnosed = result(service, "diagnose", question=QUESTION, expected=["four crowns"])
    assert not diagnosed["right"] and diagnosed["failed"] in [each["name"] for each in diagnosed["stages"]]
    assert result(service, "diagnose", question=QUESTION, expected=["nine crowns"])["right"]


def test_the_empty_answer_has_a_probability(service: Service, rag: RAG) -> None:
    found = result(service, "score", question=QUESTION, answer="")
    assert found["probability"] == pytest.approx(rag.score(QUESTION, "").probability)


def test_without_mass_nothing_is_decided(service: Service) -> None:
    found = result(service, "decide", question=QUESTION, labels=["nine", "four"])
    assert (found["label"], found["probability"], found["mass"]) == (None, None, 0.0)
    assert [each["probability"] for each in found["labels"]] == [None, None]


def test_where_and_store_choose_documents(service: Service) -> None:
    found = result(service, "passages", question=QUESTION, where={"file": "hen.txt"}, store="demo")["passages"]
    assert [each["file"] for each in found] == ["hen.txt"]


@pytest.mark.parametrize(
    ("name", "arguments", "part"),
    [
        ("ask", {}, "question: Field required"),
        ("ask", {"question": ""}, "question: String should have at least 1 character"),
        ("ask", {"question": "  "}, "expected a question"),
        ("ask", {"question": "a" * 20_001}, "question: String should have at most"),
        ("ask", {"question": "?", "k": 0}, "k: Input should be greater"),
        ("ask", {"question": "?", "kk": 1}, "kk: Extra inputs"),
        ("ask", {"question": "?", "store": "other"}, "one of the models demo, demo:short; found 'other'"),
        ("ask", {"question": "?", "where": {"year": ">=often"}}, "where 'year'"),
        ("decide", {"question": "?", "labels": ["yes"]}, "labels: List should have at least 2"),
        ("decide", {"question": "?", "labels": ["yes", "yes"]}, "labels that differ"),
        ("diagnose", {"question": "?", "expected": []}, "expected: List should have at least 1"),
        ("score", {"question": "?", "answer": "a" * 20_001}, "answer: String should have at most"),
        ("score", {"question": "?"}, "answer: Field required"),
    ],
)
def test_what_is_wrong_with_a_call_is_one_line(
    service: Service, name: str, arguments: dict[str, Any], part: str
) -> None:
    assert part in failed(service, name, **arguments)


def test_an_unknown_tool_and_a_wrong_uri_are_errors_of_the_protocol(service: Service, rag: RAG) -> None:
    cases = [
        (lambda client: client.call_tool("other", {}), "one of the tools ask, passages"),
        (lambda client: client.read_resource("file:///etc/passwd"), "mixrag:///{store}/{document}"),
        (lambda client: client.read_resource(document_uri("demo", "/etc/passwd")), "a document of the store"),
        (lambda client: client.read_resource(document_uri("other", "x")), "one of the models"),
        (lambda client: client.list_resources(cursor="x"), "a cursor"),
    ]

    async def each(client: Client) -> None:
        for use, part in cases:
            with pytest.raises(MCPError) as caught:
                await use(client)
            assert part in caught.value.message and "\n" not in caught.value.message

    within(service, each)


def test_an_error_that_is_not_mixrags_own_does_not_leave_the_server(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret\npath")

    monkeypatch.setattr(RAG, "passages", fail)
    found = called(service, "passages", question=QUESTION)
    assert found.is_error and found.content[0].text == "unexpected error; the server's log has it"


def test_uris_name_documents_of_any_name() -> None:
    for name in ("/a b/ü?x=1&page=2#r.pdf", "notes#1", "100%", "../../etc", "a\nb"):
        assert wanted_by(document_uri("a:b/c", name, page=3)) == Wanted("a:b/c", name, 3, 0)
        assert wanted_by(document_uri("s", name, offset=7)) == Wanted("s", name, None, 7)
    assert wanted_by(document_uri("s", "d")) == Wanted("s", "d", None, 0)


def test_long_lists_and_long_documents_come_in_parts(
    service: Service, rag: RAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_documents, "LISTED", 2)
    monkeypatch.setattr(mcp_documents, "READ", 2)
    text = " ".join(f"Sentence number {n} of many words in a row." for n in range(200))
    rag.add([{"id": "long", "text": text}])

    async def use(client: Client) -> tuple[list[str], str]:
        names, cursor = [], None
        while True:
            listed = await client.list_resources(cursor=cursor)
            assert len(listed.resources) <= 2
            names += [each.name for each in listed.resources]
            if (cursor := listed.next_cursor) is None:
                break
        uri, parts = document_uri("demo", "long"), []
        while uri:
            (content,) = (await client.read_resource(uri)).contents
            parts.append(content.text)
            assert content.meta["characters"] == len(text)
            uri = content.meta.get("next")
        return names, " ".join(parts)

    names, read = within(service, use)
    assert sorted(names) == ["cod.txt", "eel.txt", "hen.txt", "long"]
    assert read.split() == text.split()


def test_over_http_a_key_and_a_name_of_this_server_are_needed(service: Service, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("alice")
    clients: list[str] = []
    run = service.questions.run
    service.questions.run = lambda work, client="": clients.append(client) or run(work, client)  # type: ignore[method-assign]

    async def use(address: str) -> None:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http,
            Client(streamable_http_client(f"{address}/mcp", http_client=http)) as client,
        ):
            assert not (await client.call_tool("passages", {"question": QUESTION})).is_error
        async with httpx2.AsyncClient() as http:
            for headers, status in (({}, 401), ({"Authorization": f"Bearer {key}", "Host": "evil.example"}, 421)):
                found = await http.post(f"{address}/mcp", json={}, headers=headers)
                assert found.status_code == status

    with listening(make_app(service, Security(keys=keys))) as address:
        anyio.run(use, address)
    assert [each for each in clients if each] == ["alice"], "without a name only models are loaded"


def test_answers_of_the_endpoint_are_whole_responses(client: TestClient) -> None:
    """A stream would be cut off where the server is stopped while a tool runs."""
    first = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": first}
    found = client.post("/mcp", json=body, headers={"Accept": "application/json, text/event-stream"})
    assert (found.status_code, found.headers["content-type"]) == (200, "application/json")
