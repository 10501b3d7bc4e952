"""Questions to a model behind a server that are cancelled: it is asked nothing more, and no thread waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_server import FakeServer, random_model
from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.errors import StreamClosedError
from mixrag.generator.remote.client import Limits
from mixrag.generator.remote.connection import connect
from mixrag.server.questions import Questions
from slow_server import SlowServer
from tiny_models import chat_tokenizer
from words_encoder import WordsEncoder

QUESTION = "What does a licence for cod cost?"
SECONDS = 20
CONNECTION = Limits(answer=60.0)
"""A request that is not cancelled outlasts every wait here."""


@pytest.fixture
def slow() -> SlowServer:
    own = chat_tokenizer()
    server = FakeServer(
        random_model(len(own), scale=3.0),
        frozenset({own.eos_token_id}),
        tokenize=lambda text: own(text, add_special_tokens=False).input_ids,
        detokenize=own.decode,
    )
    return SlowServer(server)


@pytest.fixture
def rag(tmp_path: Path, slow: SlowServer) -> Iterator[RAG]:
    store = Store.open(tmp_path / "store", create=True)
    generator: Any = connect(
        "http://server.test/v1", tokenizer=chat_tokenizer(), transport=slow.transport(), limits=CONNECTION
    )
    with RAG(store, encoder=WordsEncoder(), generator=generator, settings=Settings(k=2, max_tokens=4)) as rag:
        rag.add([{"id": "cod", "text": "A licence for cod costs nine crowns."}, {"id": "eel", "text": "Eel."}])
        assert rag.ask(QUESTION).tokens
        slow.count = 0
        slow.hold.set()
        yield rag


async def begun(slow: SlowServer) -> None:
    assert await asyncio.to_thread(slow.begun.wait, SECONDS)


async def aborted(slow: SlowServer) -> None:
    assert await asyncio.to_thread(slow.aborted.wait, SECONDS)


def asks_no_more(rag: RAG, slow: SlowServer, before: int) -> None:
    """What comes next is the first that the server sees."""
    assert slow.count == before
    slow.hold.clear()
    asked = len(slow.server.requests)
    assert rag.score(QUESTION, "nine").tokens
    assert (slow.count, len(slow.server.requests)) == (before + 1, asked + 1)


@pytest.mark.parametrize("ask", ["aask", "adecide"])
def test_a_task_that_is_cancelled(rag: RAG, slow: SlowServer, ask: str) -> None:
    async def read() -> None:
        task = asyncio.create_task(getattr(rag, ask)(QUESTION))
        await begun(slow)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await aborted(slow)

    asyncio.run(read())  # which waits for its threads
    asks_no_more(rag, slow, 1)


def test_a_stream_that_is_closed_elsewhere(rag: RAG, slow: SlowServer) -> None:
    stream, errors = rag.stream(QUESTION), []

    def read() -> None:
        try:
            next(stream)
        except StreamClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert slow.begun.wait(SECONDS)
    stream.close()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert len(errors) == 1
    with pytest.raises(StreamClosedError):
        stream.answer
    assert slow.aborted.wait(SECONDS)
    asks_no_more(rag, slow, 1)


def test_an_async_stream_that_is_closed_while_it_is_opened(rag: RAG, slow: SlowServer) -> None:
    """With the question's likelihood, passages are read before the first token."""

    async def read() -> None:
        stream = rag.astream(QUESTION, question_likelihood=1.0, max_outside=None)
        task = asyncio.create_task(stream.result())
        await begun(slow)
        stream.close()
        with pytest.raises(StreamClosedError):
            await task
        await aborted(slow)

    asyncio.run(read())
    asks_no_more(rag, slow, 1)


def run_ask(questions: Questions, rag: RAG) -> Callable[[], Any]:
    async def ask() -> Any:
        async with questions.ask(rag, QUESTION, {}) as asked:
            return await asked.answer()

    return ask


def run_score(questions: Questions, rag: RAG) -> Callable[[], Any]:
    return lambda: questions.run(lambda: rag.score(QUESTION, "nine"))


@pytest.mark.parametrize("kind", [run_ask, run_score])
def test_the_client_of_the_server_has_gone(rag: RAG, slow: SlowServer, kind: Any) -> None:
    """``unless_gone`` cancels the task; the place is free as soon as the thread is."""
    questions = Questions()

    async def ask() -> None:
        task = asyncio.ensure_future(kind(questions, rag)())
        await begun(slow)
        assert questions.running == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await aborted(slow)
        await asyncio.to_thread(questions.close)

    asyncio.run(ask())
    assert questions.running == 0
    asks_no_more(rag, slow, 1)
