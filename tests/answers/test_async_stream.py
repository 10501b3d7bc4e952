"""Async forms: the same answers as the plain ones, errors and cancellation included."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mixrag import RAG, Generator, Settings
from mixrag.corpus import Store
from mixrag.errors import QuestionError, SettingError, StreamClosedError
from mixrag.inference import DecodedToken, DecoderResult, Greedy, Mixture
from words_encoder import WordsEncoder

QUESTION = "What does a licence for cod cost?"


class Watched(Greedy):
    """Greedy, with the number of tokens that were decided; from the ``hold``-th on each waits for ``go_on``."""

    def __init__(self, hold: int | None = None, fail: int | None = None) -> None:
        super().__init__()
        object.__setattr__(self, "hold", hold)
        object.__setattr__(self, "fail", fail)
        object.__setattr__(self, "decided", [])
        object.__setattr__(self, "waiting", threading.Event())
        object.__setattr__(self, "go_on", threading.Event())
        object.__setattr__(self, "ended", threading.Event())

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        try:
            for count, step in enumerate(super().decode(mixture, max_tokens), 1):
                assert threading.current_thread() is not threading.main_thread()
                if count == self.fail:
                    raise RuntimeError("out of memory")
                if self.hold is not None and count >= self.hold:
                    self.waiting.set()
                    assert self.go_on.wait(60)
                self.decided.append(step)
                yield step
        finally:
            self.ended.set()


@pytest.fixture
def rag(tmp_path: Path, tiny_generator: Callable[[str], Generator]) -> Iterator[RAG]:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "cod.txt").write_text("A licence to fish cod costs nine crowns a year.")
    (folder / "eel.txt").write_text("A licence to fish eel costs four crowns a season.")
    store = Store.open(tmp_path / "store", create=True)
    with RAG(
        store, encoder=WordsEncoder(), generator=tiny_generator("llama-chat"), settings=Settings(max_tokens=6)
    ) as rag:
        rag.index([folder])
        assert len(rag.ask(QUESTION).tokens) > 3
        yield rag


def test_aask_gives_what_ask_gives(rag: RAG) -> None:
    for changes in ({}, {"decoder": "beam"}, {"decoder": "sample", "seed": 3}, {"k": 0}):
        assert asyncio.run(rag.aask(QUESTION, **changes)) == rag.ask(QUESTION, **changes)


def test_astream_gives_the_tokens_and_then_the_answer(rag: RAG) -> None:
    async def read() -> None:
        stream, decoder = rag.astream(QUESTION, decoder=(decoder := Watched())), decoder
        tokens = []
        async for token in stream:
            tokens.append(token)
            assert len(decoder.decided) == len(tokens), "one is decided at a time"
        plain = rag.stream(QUESTION)
        assert tokens == list(plain) and stream.answer == plain.answer == await stream.result()
        assert [token async for token in stream] == []

    asyncio.run(read())


def test_the_event_loop_is_free_while_a_token_is_computed(rag: RAG) -> None:
    async def read() -> None:
        decoder = Watched(hold=2)
        task = asyncio.create_task(rag.aask(QUESTION, decoder=decoder))
        while not decoder.waiting.is_set():
            await asyncio.sleep(0.001)
        assert not task.done()
        decoder.go_on.set()
        assert (await task).best_guess == rag.ask(QUESTION).best_guess

    asyncio.run(read())


def test_cancelling_stops_after_the_token_under_way(rag: RAG) -> None:
    async def read() -> None:
        decoder = Watched(hold=2)
        stream = rag.astream(QUESTION, decoder=decoder)
        task = asyncio.create_task(stream.result())
        while not decoder.waiting.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        decoder.go_on.set()
        assert await asyncio.to_thread(decoder.ended.wait, 60)
        assert len(decoder.decided) == 2
        with pytest.raises(StreamClosedError):
            await stream.result()
        with pytest.raises(StreamClosedError):
            stream.answer

    asyncio.run(read())


def test_errors_reach_the_caller_and_come_again(rag: RAG) -> None:
    async def read() -> None:
        stream, tokens = rag.astream(QUESTION, decoder=Watched(fail=3)), []
        with pytest.raises(RuntimeError, match="out of memory"):
            async for token in stream:
                tokens.append(token)
        assert len(tokens) == 2
        for _ in range(2):
            with pytest.raises(RuntimeError, match="out of memory"):
                await stream.result()
        with pytest.raises(RuntimeError, match="out of memory"):
            stream.answer
        with pytest.raises(QuestionError):
            await rag.aask(" ")
        refused = rag.astream(QUESTION, switch=2.0)
        for _ in range(2):
            with pytest.raises(SettingError, match="switch"):
                await anext(refused)
        with pytest.raises(SettingError, match="switch"):
            refused.answer

    asyncio.run(read())


def test_an_answer_asked_for_too_early_is_refused_in_one_line(rag: RAG) -> None:
    async def read() -> None:
        stream = rag.astream(QUESTION)
        for _ in range(2):
            with pytest.raises(StreamClosedError, match=r"tokens left; .*await stream.result\(\)") as caught:
                stream.answer
            assert "\n" not in str(caught.value)
            await anext(stream)
        assert (await stream.result()).best_guess == rag.ask(QUESTION).best_guess
        closed = rag.astream(QUESTION)
        closed.close()
        with pytest.raises(StreamClosedError, match="before its first token"):
            await anext(closed)

    asyncio.run(read())


def test_leaving_the_loop_closes_a_stream_in_a_with_statement(rag: RAG) -> None:
    async def read() -> None:
        decoder = Watched()
        async with rag.astream(QUESTION, decoder=decoder) as stream:
            async for _ in stream:
                break
        assert decoder.ended.is_set() and len(decoder.decided) == 1
        with pytest.raises(StreamClosedError):
            await stream.result()

    asyncio.run(read())


def test_several_questions_at_once(rag: RAG) -> None:
    async def read() -> None:
        questions = [QUESTION, "And eel?", "Which season?"]
        found = await asyncio.gather(*(rag.aask(question) for question in questions))
        assert [answer.best_guess for answer in found] == [rag.ask(question).best_guess for question in questions]

    asyncio.run(read())
