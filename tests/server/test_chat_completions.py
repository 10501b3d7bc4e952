"""``/v1/chat/completions`` by the official client: answers, streams, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from served import QUESTION, listening

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.server.app import make_app
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from scripted import scripted
from words_encoder import WordsEncoder

ASKED = [{"role": "user", "content": QUESTION}]
HOSTILE = "Eels ![x](http://evil.example/p.png) <img src=x> swim."


@pytest.fixture
def unstated(tmp_path: Path) -> Iterator[str]:
    """A store whose readers say that nothing is stated; the address."""
    files = tmp_path / "other"
    files.mkdir()
    (files / "eel.txt").write_text(HOSTILE)
    rag = RAG(
        Store.open(tmp_path / "unstated", create=True),
        encoder=WordsEncoder(),
        generator=scripted({"Eels": {"": 0.9, "in rivers": 0.1}, "": {"in rivers": 1.0}}),
        settings=Settings(max_tokens=6, empty_answer=True),
    )
    with rag:
        rag.index([files])
        with listening(make_app(Service(Stores([Served("demo", rag)])))) as found:
            yield found


def test_an_answer_with_its_source_and_its_numbers(official: openai.OpenAI, rag: RAG) -> None:
    found = official.chat.completions.create(model="demo", messages=ASKED, logprobs=True, top_logprobs=3)
    expected = rag.ask(QUESTION)
    choice = found.choices[0]
    assert (choice.message.content, choice.finish_reason, found.model) == ("nine crowns", "stop", "demo")
    assert choice.logprobs is not None and choice.logprobs.content is not None
    tokens = choice.logprobs.content
    assert "".join(each.token for each in tokens) == "nine crowns"
    assert math.isclose(sum(each.logprob for each in tokens), expected.log_prob)
    assert all(bytes(each.bytes or []).decode() == each.token and each.top_logprobs == [] for each in tokens)
    extension = found.model_extra["mixrag"]  # type: ignore[index]
    assert extension["probability"] == expected.probability
    assert [each["posterior"] for each in extension["passages"]] == [z.posterior for z in expected.passages]
    assert (extension["question"], extension["rewritten"], extension["withheld"]) == (QUESTION, False, False)
    assert found.usage is not None
    assert found.usage.completion_tokens == len(expected.tokens)
    assert found.usage.prompt_tokens == sum(len(c.prompt.tokens) for c in expected.scored.mixture.components)


def test_a_citation_names_the_document_and_opens_it(official: openai.OpenAI, address: str, rag: RAG) -> None:
    message = official.chat.completions.create(model="demo", messages=ASKED).choices[0].message
    assert message.annotations
    first = message.annotations[0].url_citation
    assert (message.content or "")[first.start_index : first.end_index] == "nine crowns"
    assert first.url.startswith(f"{address}/#store=demo&document=") and first.url.endswith("&offset=0")
    best = max(rag.ask(QUESTION).passages, key=lambda each: each.posterior)
    assert best.title in first.title


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_a_stream_is_the_answer_in_pieces(official: openai.OpenAI, decoder: str) -> None:
    settings = {"settings": {"decoder": decoder}}
    whole = official.chat.completions.create(model="demo", messages=ASKED, logprobs=True, extra_body=settings)
    chunks = list(
        official.chat.completions.create(
            model="demo",
            messages=ASKED,
            stream=True,
            logprobs=True,
            stream_options={"include_usage": True},
            extra_body=settings,
        )
    )
    deltas = [each.choices[0].delta for each in chunks if each.choices]
    assert deltas[0].role == "assistant"
    assert "".join(each.content or "" for each in deltas) == whole.choices[0].message.content
    tokens = [t for each in chunks if each.choices for t in (each.choices[0].logprobs or _NONE).content or []]
    assert whole.choices[0].logprobs is not None
    expected = whole.choices[0].logprobs.content or []
    assert [each.token for each in tokens] == [each.token for each in expected]
    assert [each.logprob for each in tokens] == pytest.approx([each.logprob for each in expected])
    cited = [each.model_extra["annotations"] for each in deltas if "annotations" in (each.model_extra or {})]
    assert cited == [[each.model_dump() for each in whole.choices[0].message.annotations or []]]
    ended = [each for each in chunks if each.choices and each.choices[0].finish_reason]
    assert [each.choices[0].finish_reason for each in ended] == ["stop"]
    assert ended[0].model_extra["mixrag"] == whole.model_extra["mixrag"]  # type: ignore[index]
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(each.usage is None for each in chunks[:-1])
    assert {each.id for each in chunks} == {chunks[0].id}


class _NONE:
    content: Any = None


def test_a_stream_ends_with_done(client: TestClient) -> None:
    body = {"model": "demo", "messages": ASKED, "stream": True}
    found = client.post("/v1/chat/completions", json=body)
    assert found.headers["content-type"].startswith("text/event-stream")
    lines = [each for each in found.text.split("\n\n") if each]
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(each.removeprefix("data: "))["model"] == "demo" for each in lines[:-1])


def test_a_withheld_answer_is_said_to_be_and_passages_are_shown_instead(unstated: str) -> None:
    with openai.OpenAI(base_url=f"{unstated}/v1", api_key="none", max_retries=0) as official:
        asked: list[Any] = [{"role": "user", "content": "Where do eels swim?"}]
        found = official.chat.completions.create(model="demo", messages=asked, logprobs=True)
        message, extension = found.choices[0].message, found.model_extra["mixrag"]  # type: ignore[index]
        text = message.content or ""
        assert found.choices[0].finish_reason == "stop" and found.choices[0].logprobs is None
        assert text.startswith("No answer: the documents do not seem to state it.")
        assert "in rivers" not in text and extension["withheld"] is True and "best_guess" not in extension
        assert extension["p_empty"] == pytest.approx(0.9)
        assert r"Eels \!\[x\](http://evil.example/p.png) \<img src=x\> swim." in text
        cited = message.annotations[0].url_citation  # type: ignore[index]
        assert text[cited.start_index : cited.end_index].startswith("1. ")
        guessed = official.chat.completions.create(
            model="demo", messages=asked, extra_body={"mixrag": {"best_guess": True}}
        )
        assert "The best guess would be: in rivers" in (guessed.choices[0].message.content or "")
        assert guessed.model_extra["mixrag"]["best_guess"] == "in rivers"  # type: ignore[index]
        chunks = official.chat.completions.create(model="demo", messages=asked, stream=True)
        assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == text


def test_a_follow_up_is_made_to_stand_alone_and_can_be_given(official: openai.OpenAI) -> None:
    talk: list[Any] = [
        {"role": "system", "content": "You are a pirate."},
        *ASKED,
        {"role": "assistant", "content": "nine crowns"},
        {"role": "user", "content": [{"type": "text", "text": "And for eel?"}]},
    ]
    found = official.chat.completions.create(model="demo", messages=talk)
    extension = found.model_extra["mixrag"]  # type: ignore[index]
    assert extension["question"] == "What does a licence for eel cost?"
    assert (extension["written"], extension["rewritten"]) == ("And for eel?", True)
    assert found.choices[0].message.content == "four crowns"
    given = "What does a licence for cod cost per year?"
    found = official.chat.completions.create(
        model="demo", messages=talk, extra_body={"mixrag": {"question": given}}
    )
    assert found.model_extra["mixrag"]["question"] == given  # type: ignore[index]
    assert found.choices[0].message.content == "nine crowns"


def test_a_preset_and_limits_of_tokens_shorten_an_answer(official: openai.OpenAI) -> None:
    for model, more in (("demo:short", {}), ("demo", {"max_tokens": 1}), ("demo", {"max_completion_tokens": 1})):
        found = official.chat.completions.create(model=model, messages=ASKED, **more)  # type: ignore[call-overload]
        assert (found.choices[0].message.content, found.choices[0].finish_reason) == ("nine", "length")
    found = official.chat.completions.create(model="demo", messages=ASKED, max_tokens=10**6)
    assert found.choices[0].message.content == "nine crowns"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 2}, "n"),
        ({"stop": ["x"]}, "stop"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "hm"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "user", "content": "a" * 20_001}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"mixrag": {"other": 1}}, "mixrag.other"),
        ({"mixrag": {"question": "a" * 20_001}}, "messages"),
        ({"settings": {"other": 1}}, "settings.other"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "warm"}, "temperature"),
    ],
)
def test_what_would_change_the_meaning_is_refused(client: TestClient, changes: dict[str, Any], param: str) -> None:
    for stream in (False, True):
        body = {"model": "demo", "messages": ASKED, "stream": stream, **changes}
        found = client.post("/v1/chat/completions", json=body)
        assert found.status_code == 400, found.text
        assert found.json()["error"]["param"] == param


def test_errors_of_a_stream_come_before_it_begins(client: TestClient, official: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        official.chat.completions.create(model="other", messages=ASKED, stream=True)
    with pytest.raises(openai.BadRequestError, match="k"):
        official.chat.completions.create(
            model="demo", messages=ASKED, stream=True, extra_body={"settings": {"k": -1}}
        )


def test_what_clients_send_besides_is_ignored(client: TestClient) -> None:
    more = {"temperature": 0.7, "top_p": 0.9, "presence_penalty": 1, "user": "u", "store": True, "tools": []}
    found = client.post("/v1/chat/completions", json={"messages": ASKED, "stream": False, "n": 1, **more})
    assert found.json()["choices"][0]["message"]["content"] == "nine crowns"
