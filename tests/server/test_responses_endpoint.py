"""``/v1/responses`` by the official client: items, citations, the order of events, refusals."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from served import QUESTION

from mixrag import RAG

RESULTS, LOG_PROBS = "file_search_call.results", "message.output_text.logprobs"
include: Any = [RESULTS, LOG_PROBS]


def test_a_search_and_a_message_that_cites(official: openai.OpenAI, rag: RAG, address: str) -> None:
    found = official.responses.create(model="demo", input=QUESTION, include=include)
    expected = rag.ask(QUESTION)
    assert (found.output_text, found.status, found.model) == ("nine crowns", "completed", "demo")
    search, message = found.output
    assert search.type == "file_search_call" and search.queries == [QUESTION] and search.status == "completed"
    assert search.results is not None
    assert [each.score for each in search.results] == [z.posterior for z in expected.passages]
    assert [each.text for each in search.results] == [z.text for z in expected.passages]
    assert message.type == "message" and message.content[0].type == "output_text"
    cited = message.content[0].annotations[0]
    best = max(expected.passages, key=lambda each: each.posterior)
    assert cited.type == "file_citation" and cited.file_id == best.document
    assert (cited.filename, cited.index) == ("cod.txt", len("nine crowns"))
    assert cited.model_extra["url"].startswith(address)  # type: ignore[index]
    assert sum(each.logprob for each in message.content[0].logprobs or []) == pytest.approx(expected.log_prob)
    assert found.usage is not None and found.usage.output_tokens == len(expected.tokens)
    assert found.model_extra["mixrag"]["probability"] == expected.probability  # type: ignore[index]


def test_results_and_tokens_are_there_where_they_are_asked_for(official: openai.OpenAI) -> None:
    search, message = official.responses.create(model="demo", input=QUESTION).output
    assert search.type == "file_search_call" and search.results is None
    assert message.type == "message" and message.content[0].type == "output_text"
    assert message.content[0].logprobs == []


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_the_events_of_a_stream(official: openai.OpenAI, decoder: str) -> None:
    more: Any = {"extra_body": {"settings": {"decoder": decoder}}, "include": include}
    whole = official.responses.create(model="demo", input=QUESTION, **more)
    events = list(official.responses.create(model="demo", input=QUESTION, stream=True, **more))
    assert [each.sequence_number for each in events] == [*range(len(events))]
    names = [each.type for each in events]
    deltas = [each.delta for each in events if each.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text and len(deltas) > 1
    once = [name for name, _ in groupby(names)]
    search_done = ["response.output_item.done"]
    before, after = ([], search_done) if decoder == "greedy" else (search_done, [])
    assert once == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        *before,
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        *after,
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == whole.output_text
    assert [each.type for each in last.response.output] == ["file_search_call", "message"]
    done = {each.output_index: each.item for each in events if each.type == "response.output_item.done"}
    assert [done[0], done[1]] == last.response.output
    assert last.response.usage == whole.usage


def test_the_clients_own_accumulator_follows_the_stream(official: openai.OpenAI) -> None:
    with official.responses.stream(model="demo", input=QUESTION) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == "nine crowns"


def test_a_conversation_is_one_question(official: openai.OpenAI) -> None:
    first = official.responses.create(model="demo", input=QUESTION)
    talk: list[Any] = [
        {"role": "user", "content": QUESTION},
        *[each.model_dump(exclude_none=True) for each in first.output],
        {"role": "user", "content": [{"type": "input_text", "text": "And for eel?"}]},
    ]
    found = official.responses.create(model="demo", input=talk, instructions="Be brief.")
    assert found.output[0].queries == ["What does a licence for eel cost?"]  # type: ignore[union-attr]
    assert found.output_text == "four crowns"


def test_a_short_limit_leaves_the_response_incomplete(official: openai.OpenAI) -> None:
    found = official.responses.create(model="demo", input=QUESTION, max_output_tokens=1)
    assert (found.output_text, found.status) == ("nine", "incomplete")
    assert found.incomplete_details is not None and found.incomplete_details.reason == "max_output_tokens"
    events = list(official.responses.create(model="demo", input=QUESTION, max_output_tokens=1, stream=True))
    assert events[-1].type == "response.incomplete"


def test_file_search_is_the_tool_that_there_is(official: openai.OpenAI) -> None:
    tools: Any = [{"type": "file_search", "vector_store_ids": ["demo"], "max_num_results": 1}]
    found = official.responses.create(model="demo", input=QUESTION, tools=tools, include=include)
    assert len(found.output[0].results) == 1  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["other"]}]}, "tools"),
        ({"tools": [{"type": "file_search", "filters": {"type": "eq"}}]}, "tools"),
        ({"tools": [{"type": "file_search", "max_num_results": 0}]}, "tools"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content"),
        ({"input": ""}, "input"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
    ],
)
def test_what_would_change_the_meaning_is_refused(client: TestClient, changes: dict[str, Any], param: str) -> None:
    found = client.post("/v1/responses", json={"model": "demo", "input": QUESTION, **changes})
    assert (found.status_code, found.json()["error"]["param"]) == (400, param)


def test_an_error_in_a_stream_is_a_failed_response(
    client: TestClient, rag: RAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("mixrag.answers.stream.answer_of", broken)
    text = client.post("/v1/responses", json={"input": QUESTION, "stream": True}).text
    assert "event: response.failed" in text and "secret" not in text
    text = client.post("/v1/chat/completions", json={"messages": [_asked()], "stream": True}).text
    assert '"error"' in text and "secret" not in text and "[DONE]" not in text


def _asked() -> dict[str, str]:
    return {"role": "user", "content": QUESTION}
