"""Requests as Open WebUI and LibreChat send them: chats, sources, and what they ask a model for themselves.

They are made after the sources of both, not recorded, and templates are quoted only as far as they are recognised:

- titles, tags, follow-up questions, image prompts, autocompletion, tool choice, emoji, search queries: constants
  ``DEFAULT_..._PROMPT_TEMPLATE`` in ``backend/open_webui/config.py`` of github.com/open-webui/open-webui. Titles
  "3-5 word" as of its commit 2586f1f3, and without it in later ones; ``NEW_TITLE`` has another output.
- the summary of a long chat: ``DEFAULT_CONTEXT_COMPACTION_PROMPT`` in its
  ``backend/open_webui/utils/context_compaction.py`` (commit 050b090f), where the messages replace an empty answer;
- headers ``X-OpenWebUI-...``: ``backend/open_webui/utils/headers.py`` (commit 0790441f), and
  ``FORWARD_..._HEADER_...`` in ``backend/open_webui/env.py``;
- LibreChat's titles: ``defaultCompletionPrompt`` and ``defaultTitlePrompt`` in ``src/utils/title.ts`` of
  github.com/danny-avila/agents (commit d8751a6a), ``ASSISTANTS_TITLE`` the older one of its assistants;
- LibreChat's chats: parameters of ``packages/api/src/endpoints/openai/llm.ts`` in github.com/danny-avila/LibreChat
  (commit 00b3bc32): ``user``, ``stream``, ``temperature``, penalties; messages of parts as LangChain writes them.
"""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from served import QUESTION

from mixrag import RAG
from mixrag.server.conversation import Turn
from mixrag.server.openai.client_tasks import client_task, title_of

HISTORY = f"""### Chat History:
<chat_history>
USER: {QUESTION}
ASSISTANT: nine crowns
</chat_history>"""
TITLE = f"""### Task:
Generate a concise, 3-5 word title with an emoji summarizing the chat history.
### Output:
JSON format: {{ "title": "your concise title here" }}
{HISTORY}"""
NEW_TITLE = TITLE.replace('JSON format: { "title": "your concise title here" }', "Return ONLY the title text.")
LATER_TITLE = TITLE.replace("a concise, 3-5 word title with an emoji", "a concise title")
LIBRECHAT_TITLE = f"""Provide a concise, 5-word-or-less title for the conversation, using its own \
language, with no \
punctuation.

Conversation:
User: {QUESTION}
AI: nine crowns"""
STRUCTURED_TITLE = f"""Analyze this conversation and provide:
1. The detected language of the conversation
2. A concise title in the detected language (5 words or less, no punctuation or quotation)

User: {QUESTION}
AI: nine crowns"""
ASSISTANTS_TITLE = f"""Please generate a concise title (max 40 characters) for a conversation that starts with:
User: {QUESTION}
Assistant: nine crowns

Title:"""
NAMED = "What does a licence for cod cost"
TASKS = [
    ("title", TITLE, json.dumps({"title": NAMED})),
    ("title", NEW_TITLE, NAMED),
    ("title", LATER_TITLE, json.dumps({"title": NAMED})),
    ("title", LIBRECHAT_TITLE, NAMED),
    ("title", STRUCTURED_TITLE, NAMED),
    ("title", ASSISTANTS_TITLE, NAMED),
    ("tags", f"### Task:\nGenerate 1-3 broad tags categorizing the main themes\n{HISTORY}", '{"tags": []}'),
    (
        "follow-ups",
        f"### Task:\nSuggest 3-5 relevant follow-up questions or prompts\n{HISTORY}",
        '{"follow_ups": []}',
    ),
    (
        "queries",
        "### Task:\nAnalyze the chat history to determine the necessity of generating search queries"
        f", in the given language.\n{HISTORY}",
        json.dumps({"queries": [QUESTION]}),
    ),
    ("autocomplete", "### Task:\nYou are an autocompletion system. Continue\n<text>wha</text>", '{"text": ""}'),
    (
        "image prompt",
        f"### Task:\nGenerate a detailed prompt for am image generation task based on\n{HISTORY}",
        json.dumps({"prompt": QUESTION}),
    ),
    (
        "emoji",
        "Your task is to reflect the speaker's likely facial expression through a fitting emoji. Message: x",
        "",
    ),
    (
        "summary",
        "### Task:\nSummarize the conversation history that will be compacted out of the active chat context.",
        "",
    ),
]


@pytest.fixture
def unread(rag: RAG, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be retrieved."""

    def retrieved(*_: Any, **__: Any) -> None:
        raise AssertionError("passages were asked for")

    monkeypatch.setattr(RAG, "stream", retrieved)


@pytest.mark.parametrize(("name", "template", "text"), TASKS, ids=[f"{n}-{t[:40]!r}" for n, t, _ in TASKS])
def test_what_a_page_asks_for_itself_reads_no_passage(
    client: TestClient, unread: None, name: str, template: str, text: str
) -> None:
    messages = [{"role": "user", "content": template}]
    body = {"model": "demo", "messages": messages, "stream": False, "max_completion_tokens": 1000}
    found = client.post("/v1/chat/completions", json=body).json()
    assert found["choices"][0]["message"]["content"] == text
    assert found["mixrag"] == {"task": name, "passages": []}
    assert found["usage"]["total_tokens"] == 0
    streamed = client.post("/v1/chat/completions", json={**body, "stream": True}).text
    assert "".join(each["delta"].get("content", "") for each in _choices(streamed)) == text
    response = client.post("/v1/responses", json={"model": "demo", "input": template}).json()
    assert response["output"][0]["content"][0]["text"] == text


def test_the_choice_of_a_tool_reads_no_passage(client: TestClient, unread: None) -> None:
    system = "Available Tools: []\n\nYour task is to choose and return the correct tool(s) from the list"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": f"Query: {QUESTION}"}]
    found = client.post("/v1/chat/completions", json={"messages": messages}).json()
    assert json.loads(found["choices"][0]["message"]["content"]) == {"tool_calls": []}


@pytest.mark.parametrize(
    "question",
    [
        "Generate a concise, 3-5 word title for my thesis on cod",
        "### Task:\nGenerate a concise, 3-5 word title of this chapter",
        "### Task:\nGenerate a concise title of this chapter",
        "### Task:\nSummarize the conversation history of Orrin",
        "Please generate a concise title (max 40 characters)",
        "What does 'Suggest 3-5 relevant follow-up questions' mean?",
        "Provide a concise, 5-word-or-less title for the conversation",
        "Analyze this conversation and provide: a summary",
        QUESTION,
    ],
)
def test_a_persons_question_is_no_task(question: str) -> None:
    assert client_task([Turn("user", question)]) is None


def test_a_history_that_never_ends_is_read_once() -> None:
    found = client_task([Turn("user", TITLE.split("<chat")[0] + "<chat_history>" * 50_000)])
    assert found is not None and found.name == "title"


def test_an_earlier_task_does_not_make_the_next_question_one() -> None:
    assert client_task([Turn("user", TITLE), Turn("assistant", "Fees"), Turn("user", QUESTION)]) is None


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("why?", "Why"),
        ("one two three four five six seven eight", "One two three four five six seven…"),
        ("a" * 100, "A" + "a" * 58 + "…"),
        ("", "Conversation"),
        ("?!", "Conversation"),
    ],
)
def test_a_title_is_how_the_question_begins(question: str, title: str) -> None:
    assert title_of(question) == title


def test_open_webui_gets_sources_with_their_text(client: TestClient, rag: RAG) -> None:
    body = {
        "model": "demo",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": QUESTION}],
    }
    headers = {"X-OpenWebUI-Chat-Id": "c1"}
    text = client.post("/v1/chat/completions", json=body, headers=headers).text
    events = [each["event"] for each in _documents(text) if "event" in each]
    expected = {each.id: each for each in rag.ask(QUESTION).passages}
    assert events and {each["type"] for each in events} == {"source"}
    for each in events:
        data = each["data"]
        passage = expected[data["source"]["id"]]
        assert data["document"] == [passage.text] and data["distances"] == [passage.posterior]
        assert data["metadata"][0]["source"] == data["source"]["url"]
    assert [each["delta"] for each in _choices(text) if "annotations" in each["delta"]] == [], "named once"
    assert "".join(each["delta"].get("content", "") for each in _choices(text)) == "nine crowns"
    plain = client.post("/v1/chat/completions", json=body).text
    assert not any("event" in each for each in _documents(plain))
    assert any("annotations" in each["delta"] for each in _choices(plain))


def test_the_official_client_reads_a_stream_with_sources(official: openai.OpenAI) -> None:
    stream = official.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        extra_body={"mixrag": {"sources": True}},
    )
    chunks = list(stream)
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "nine crowns"
    assert any("event" in (each.model_extra or {}) for each in chunks)


def test_librechat_asks_with_parts_and_a_user(client: TestClient) -> None:
    assert client.get("/v1/models", headers={"Authorization": "Bearer none"}).json()["data"]
    body = {
        "model": "demo",
        "user": "65f0c2a1e4b0a1b2c3d4e5f6",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": "nine crowns"},
            {"role": "user", "content": [{"type": "text", "text": "And for eel?"}]},
        ],
    }
    text = client.post("/v1/chat/completions", json=body).text
    assert "".join(each["delta"].get("content", "") for each in _choices(text)) == "four crowns"
    assert _documents(text)[-1]["usage"]["completion_tokens"] > 0


def _documents(text: str) -> list[dict[str, Any]]:
    """The lines of a stream, as Open WebUI reads them."""
    lines = [each.removeprefix("data:").strip() for each in text.splitlines() if each.startswith("data:")]
    return [json.loads(each) for each in lines if each != "[DONE]"]


def _choices(text: str) -> list[dict[str, Any]]:
    return [each["choices"][0] for each in _documents(text) if each["choices"]]
