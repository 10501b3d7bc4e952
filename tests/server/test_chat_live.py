"""A chat is streamed while it is written, and ends with its client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from gated import Gate, gated
from served import ANSWERS, QUESTION, TEXTS, listening, wait_until

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.server.app import make_app
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from scripted import scripted
from words_encoder import WordsEncoder

ASKED: Any = [{"role": "user", "content": QUESTION}]


@pytest.fixture
def gate() -> Iterator[Gate]:
    found = Gate()
    yield found
    found.opened.set()


@pytest.fixture
def slow(gate: Gate, tmp_path: Path) -> Iterator[tuple[openai.OpenAI, Service]]:
    """A client of a store whose model waits at the gate after its first token."""
    files = tmp_path / "files"
    files.mkdir()
    for name, text in TEXTS.items():
        (files / name).write_text(text)
    rag = RAG(
        Store.open(tmp_path / "store", create=True),
        encoder=WordsEncoder(),
        generator=gated(scripted(ANSWERS), gate),
        settings=Settings(max_tokens=6),
    )
    with rag:
        rag.index([files])
        service = Service(Stores([Served("demo", rag)]))
        with (
            listening(make_app(service)) as address,
            openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
        ):
            yield client, service
            gate.opened.set()


def test_the_first_token_comes_before_the_second_is_decided(
    slow: tuple[openai.OpenAI, Service], gate: Gate
) -> None:
    client, _ = slow
    gate.shut()
    chunks = iter(client.chat.completions.create(model="demo", messages=ASKED, stream=True))
    texts = [next(chunks).choices[0].delta.content for _ in range(2)]
    assert texts == ["", "nine"] and not gate.opened.is_set()
    gate.opened.set()
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == " crowns"


def test_the_first_event_of_a_response_comes_before_the_answer(
    slow: tuple[openai.OpenAI, Service], gate: Gate
) -> None:
    client, _ = slow
    gate.shut()
    events = iter(client.responses.create(model="demo", input=QUESTION, stream=True))
    delta = next(each for each in events if each.type == "response.output_text.delta")
    assert delta.delta == "nine" and not gate.opened.is_set()
    gate.opened.set()
    assert [each.type for each in events][-1] == "response.completed"


def test_a_beam_is_shown_when_it_has_decided(slow: tuple[openai.OpenAI, Service], gate: Gate) -> None:
    client, _ = slow
    gate.shut()
    more: Any = {"extra_body": {"settings": {"decoder": "beam"}}}
    chunks = iter(client.chat.completions.create(model="demo", messages=ASKED, stream=True, **more))
    assert next(chunks).choices[0].delta.role == "assistant", "the stream has begun"
    gate.opened.set()
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "nine crowns"


def test_nothing_runs_for_a_client_that_has_gone(slow: tuple[openai.OpenAI, Service], gate: Gate) -> None:
    client, service = slow
    gate.shut()
    stream = client.chat.completions.create(model="demo", messages=ASKED, stream=True)
    next(iter(stream))
    wait_until(gate.reached.is_set)
    assert service.questions.running == 1
    stream.close()
    gate.opened.set()
    wait_until(lambda: service.questions.running == 0)
