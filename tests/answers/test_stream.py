"""Streams: read to the end, read in part, not read, closed, and ended by an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mixrag import RAG, Generator, Settings
from mixrag.corpus import Store
from mixrag.errors import StreamClosedError
from mixrag.inference import DecodedToken, DecoderResult, Greedy, Mixture
from words_encoder import WordsEncoder

QUESTION = "What does a licence for cod cost?"


class Failing(Greedy):
    """Greedy, until ``limit`` tokens were decided."""

    limit, error = 2, RuntimeError("out of memory")

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        for count, step in enumerate(super().decode(mixture, max_tokens)):
            if count == self.limit:
                raise self.error
            yield step


class Interrupted(Failing):
    error = KeyboardInterrupt()  # type: ignore[assignment]


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


@pytest.mark.parametrize("decoder", [Failing(), Interrupted()], ids=["error", "interrupt"])
def test_the_error_that_ended_a_stream_is_raised_again(rag: RAG, decoder: Failing) -> None:
    stream, taken = rag.stream(QUESTION, decoder=decoder), []
    with pytest.raises(type(decoder.error)) as caught:
        for token in stream:
            taken.append(token)
    assert len(taken) == 2 and caught.value is decoder.error and stream.ended
    for again in (lambda: stream.answer, lambda: next(stream), lambda: list(stream), lambda: stream.answer):
        with pytest.raises(type(decoder.error)) as caught:
            again()
        assert caught.value is decoder.error


def test_asking_raises_the_error_itself(rag: RAG) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        rag.ask(QUESTION, decoder=Failing())


def test_a_stream_that_nobody_reads_has_its_answer(rag: RAG) -> None:
    assert rag.stream(QUESTION).answer == rag.ask(QUESTION)


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_a_stream_read_in_part_goes_on(rag: RAG, decoder: str) -> None:
    stream = rag.stream(QUESTION, decoder=decoder)
    pieces = [next(stream).text]
    for token in stream:
        pieces.append(token.text)
        break
    pieces += [token.text for token in stream]
    assert "".join(pieces) == stream.answer.best_guess
    assert list(stream) == [] and stream.ended and stream.answer is stream.answer


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
@pytest.mark.parametrize("taken", [0, 1])
def test_a_stream_closed_early_has_no_answer(rag: RAG, decoder: str, taken: int) -> None:
    with rag.stream(QUESTION, decoder=decoder) as stream:
        for _ in range(taken):
            next(stream)
    stream.close()
    for refused in (lambda: stream.answer, lambda: next(stream)):
        with pytest.raises(StreamClosedError, match="closed before it; ask again") as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_closing_after_the_end_changes_nothing(rag: RAG) -> None:
    with rag.stream(QUESTION) as stream:
        answer = stream.answer
    assert stream.answer is answer and list(stream) == []


def test_closing_from_another_thread_ends_it_after_the_token_under_way(rag: RAG) -> None:
    entered, go_on = threading.Event(), threading.Event()
    closed = []

    class Waiting(Greedy):
        def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
            try:
                for step in super().decode(mixture, max_tokens):
                    entered.set()
                    assert go_on.wait(60)
                    yield step
            finally:
                closed.append(True)

    stream, taken = rag.stream(QUESTION, decoder=Waiting()), []
    thread = threading.Thread(target=lambda: taken.append(next(stream)))
    thread.start()
    assert entered.wait(60)
    stream.close()
    go_on.set()
    thread.join(60)
    assert len(taken) == 1 and closed == [True]
    with pytest.raises(StreamClosedError):
        next(stream)
