"""Arguments of the chat template for servers that return text alone, and thoughts that are cut off."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fake_server import FakeServer, random_model
from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import SettingError
from mixrag.generator.remote.connection import connect
from mixrag.generator.remote.text_writer import TextWriter
from tables import passage
from tiny_models import chat_tokenizer

ROOT = "http://server.test/v1"
PASSAGES = [[passage("p0", "nine crowns")], [passage("p1", "four crowns")]]


def writer(kind: str, **args: Any) -> tuple[FakeServer, Any]:
    """A server that names tokens by their text, so that it is used for text alone."""
    own = chat_tokenizer()
    own.chat_template = "{% if enable_thinking or effort %}{% endif %}" + str(own.chat_template)
    tokenize = lambda text: own(text, add_special_tokens=False).input_ids  # noqa: E731
    stops = frozenset({own.eos_token_id})
    largest = 10**6 if kind == "llamacpp" else 20
    server = FakeServer(random_model(len(own)), stops, kind, ids=False, tokenize=tokenize, detokenize=own.decode)
    server.largest, server.includes_bias = largest, True
    template = PromptTemplate(template_args=args)
    given = None if kind in ("openai", "ollama") else own
    name = f"{kind}:model@{ROOT}" if kind else ROOT
    return server, connect(name, tokenizer=given, template=template, transport=server.transport())


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_arguments_are_sent_where_the_server_takes_them(kind: str) -> None:
    server, found = writer(kind, enable_thinking=True, effort="low")
    assert isinstance(found, TextWriter)
    found.texts("What does it cost?", PASSAGES, 8)
    assert server.requests[-1][1]["chat_template_kwargs"] == {"enable_thinking": True, "effort": "low"}
    server, found = writer(kind)
    found.texts("What does it cost?", PASSAGES, 8)
    assert server.requests[-1][1]["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}


@pytest.mark.parametrize(
    ("kind", "remedy"), [("openai", "reasoning settings"), ("ollama", "think"), ("", "server's kind")]
)
def test_arguments_are_refused_where_the_server_takes_none(kind: str, remedy: str) -> None:
    with pytest.raises(SettingError, match=f"found enable_thinking .*{remedy}"):
        writer(kind, enable_thinking=False)


def test_openai_is_sent_nothing_that_it_does_not_know() -> None:
    server, found = writer("openai")
    found.texts("What does it cost?", PASSAGES, 8)
    assert server.requests[-1][1].keys() == {"model", "messages", "temperature", "max_tokens"}
    assert "not probed" in found.capabilities.describe()


@pytest.mark.parametrize(
    "message",
    [
        {"content": "<think>Nine, or"},
        {"content": None, "reasoning_content": "Nine, or"},
        {"content": "", "reasoning": "Nine, or"},
    ],
)
def test_an_answer_that_is_all_thought_is_said_to_be_cut(message: Any, caplog: pytest.LogCaptureFixture) -> None:
    server, found = writer("vllm")
    server._chat = lambda document: {"choices": [{"finish_reason": "length", "message": message}]}  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "mixrag.generator"):
        texts = found.texts("What does it cost?", PASSAGES, 8)
    assert [(each.text, each.finished, each.in_thought) for each in texts] == [("", False, True)] * 2
    (line,) = [record.getMessage() for record in caplog.records]
    assert "2 of 2 answers were cut off inside of a thought" in line
    assert "--max-tokens" in line and "enable_thinking=false" in line


def test_an_answer_that_is_cut_behind_its_thought_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    server, found = writer("vllm")
    message = {"content": "<think>Nine</think>Nine cro"}
    server._chat = lambda document: {"choices": [{"finish_reason": "length", "message": message}]}  # type: ignore[method-assign]
    assert [each.text for each in found.texts("What does it cost?", PASSAGES, 8)] == ["Nine cro"] * 2
    assert not caplog.records
