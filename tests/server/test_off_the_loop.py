"""What takes time for a long answer is made in a thread: the event loop stays free for other clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from served import QUESTION

CHAT = {"messages": [{"role": "user", "content": QUESTION}]}
TOOLS = {
    "ask": {"question": QUESTION},
    "passages": {"question": QUESTION},
    "score": {"question": QUESTION, "answer": "nine crowns"},
    "decide": {"question": QUESTION, "labels": ["nine crowns", "four crowns"]},
    "diagnose": {"question": QUESTION, "expected": ["nine crowns"]},
}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[bool]]:
    """Names a function; the list says of each call whether an event loop runs in its thread."""

    def watched(name: str) -> list[bool]:
        module, _, function = name.rpartition(".")
        inner = getattr(__import__(module, fromlist=[function]), function)
        seen: list[bool] = []

        def call(*given: Any, **named: Any) -> Any:
            seen.append(asyncio._get_running_loop() is not None)
            return inner(*given, **named)

        monkeypatch.setattr(name, call)
        return seen

    return watched


@pytest.mark.parametrize(
    ("path", "body", "made"),
    [
        ("/v1/chat/completions", CHAT, "openai.asking.reply_of"),
        ("/v1/chat/completions", {**CHAT, "stream": True}, "openai.asking.reply_of"),
        ("/v1/responses", {"input": QUESTION}, "openai.asking.reply_of"),
        ("/v1/responses", {"input": QUESTION, "stream": True}, "openai.asking.reply_of"),
        ("/v1/completions", {"prompt": QUESTION}, "openai.asking.reply_of"),
        ("/v1/completions", {"prompt": f"{QUESTION}\nnine crowns", "echo": True}, "openai.completions.reply_of"),
        ("/v1/embeddings", {"input": [QUESTION, "cod"]}, "openai.embeddings._written"),
        ("/v1/answers", {"question": QUESTION}, "native.answers.citations_of"),
        ("/v1/answers", {"question": QUESTION, "stream": True}, "native.answers.citations_of"),
        ("/v1/score", {"question": QUESTION, "answer": "nine crowns"}, "native.score.citations_of"),
        ("/v1/passages", {"question": QUESTION}, "native.passages.retrieval_to_dict"),
        ("/v1/diagnose", {"question": QUESTION, "expected": ["nine crowns"]}, "native.diagnose.diagnose"),
    ],
)
def test_documents_are_made_in_a_thread(
    client: TestClient, watch: Callable[[str], list[bool]], path: str, body: dict[str, Any], made: str
) -> None:
    seen = watch(f"mixrag.server.{made}")
    found = client.post(path, json=body)
    assert found.status_code == 200, found.text
    assert seen and not any(seen)


@pytest.mark.parametrize(
    ("tool", "made"),
    [
        ("ask", "_answered"),
        ("passages", "_place_of"),
        ("score", "_weights"),
        ("decide", "_decided"),
        ("diagnose", "_diagnosed"),
    ],
)
def test_results_of_tools_are_made_in_a_thread(
    client: TestClient, watch: Callable[[str], list[bool]], tool: str, made: str
) -> None:
    seen = watch(f"mixrag.server.mcp_tools.{made}")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": TOOLS[tool]}}
    found = client.post("/mcp", json=call, headers={"Accept": "application/json, text/event-stream"}).json()
    assert not found["result"].get("isError"), found
    assert seen and not any(seen)
