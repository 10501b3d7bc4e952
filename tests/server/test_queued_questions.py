"""Questions under way: what each gets, whoever else asks, leaves, fails or comes too late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gated import Gate, gated

from mixrag import RAG, Answer, Settings
from mixrag.corpus import Store
from mixrag.errors import QuestionError, StreamClosedError
from mixrag.server.errors import BusyError, ClosingError, TimeLimitError
from mixrag.server.questions import Asked, Limits, Questions
from mixrag.server.watch import Watched
from scripted import scripted
from words_encoder import WordsEncoder

TEXTS = {
    "cod": "A licence to fish cod costs nine crowns a year.",
    "eel": "A licence to fish eel costs four crowns a season.",
    "hen": "Hens lay fewer eggs during winter.",
    "ferry": "The ferry to the island runs on Mondays.",
}
ANSWERS = {
    "cod": {"nine crowns a year": 0.9, "four crowns": 0.05},
    "eel": {"four crowns a season": 0.8, "nine crowns": 0.1},
    "Hens": {"during winter": 0.7, "in summer": 0.2},
    "ferry": {"on Mondays": 0.6, "never": 0.3},
    "": {"nine crowns": 0.3, "four crowns": 0.3},
}
ASKED = (
    "What does a licence for cod cost?",
    "What does a licence for eel cost?",
    "When do hens lay fewer eggs?",
    "When does the ferry run?",
)
WAYS: tuple[dict[str, Any], ...] = (
    {"decoder": "beam", "beams": 3},
    {"decoder": "beam", "beams": 2, "empty_answer": True},
    {"decoder": "greedy"},
    {"decoder": "greedy", "k": 2, "switch": 0.3},
    {"decoder": "sample", "seed": 5},
    {"decoder": "greedy", "samples": 2},
    {"decoder": "thorough"},
    {"decoder": "beam", "kind": "list"},
)
COD = ASKED[0]


@pytest.fixture
def gate() -> Iterator[Gate]:
    found = Gate()
    yield found
    found.opened.set()


@pytest.fixture
def rag(tmp_path: Path, gate: Gate) -> Iterator[RAG]:
    with opened(tmp_path, gate) as found:
        yield found


def opened(folder: Path, gate: Gate, fails_after: str = "") -> RAG:
    model = gated(scripted(ANSWERS), gate, fails_after)
    store = Store.open(folder / "store", create=True)
    found = RAG(store, encoder=WordsEncoder(), generator=model, settings=Settings(k=4, max_tokens=6))
    found.add([{"id": name, "text": text} for name, text in TEXTS.items()])
    return found


def run(work: Callable[[Questions], Awaitable[None]], limits: Limits = Limits()) -> None:
    """A test with questions of its own, all of which must have ended after it."""

    async def whole() -> None:
        questions = Questions(limits)
        try:
            await asyncio.wait_for(work(questions), 60)
            await until(lambda: (questions.running, questions.waiting, questions.batches.answers) == (0, 0, 0))
        finally:
            questions.close()

    asyncio.run(whole())


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.002)


async def answered(questions: Questions, rag: RAG, question: str, **changes: Any) -> Answer:
    async with questions.ask(rag, question, changes) as asked:
        return await asked.answer()


def same(found: Answer, alone: Answer) -> None:
    assert (found.question, found.text, found.kind) == (alone.question, alone.text, alone.kind)
    assert found.probability == pytest.approx(alone.probability, rel=1e-12)
    assert [each.posterior for each in found.passages] == pytest.approx(
        [each.posterior for each in alone.passages]
    )
    assert [each.text for each in found.tokens] == [each.text for each in alone.tokens]
    assert found.certified == alone.certified


def test_each_gets_the_answer_that_it_gets_alone(rag: RAG, gate: Gate) -> None:
    pairs = [(question, way) for way in WAYS for question in ASKED]
    alone = [rag.ask(question, **way) for question, way in pairs]

    async def work(questions: Questions) -> None:
        found = await asyncio.gather(*(answered(questions, rag, question, **way) for question, way in pairs))
        for mine, other in zip(found, alone, strict=True):
            same(mine, other)

    run(work)


def test_questions_that_are_under_way_share_passes_and_others_join_them(rag: RAG, gate: Gate) -> None:
    async def work(questions: Questions) -> None:
        gate.shut()
        tasks = [asyncio.ensure_future(answered(questions, rag, ASKED[0], decoder="greedy", prune=0.0))]
        await until(gate.reached.is_set)
        tasks += [
            asyncio.ensure_future(answered(questions, rag, q, decoder="greedy", prune=0.0)) for q in ASKED[1:]
        ]
        await until(lambda: questions.batches.answers == 4)
        gate.rows.clear()
        gate.opened.set()
        await asyncio.gather(*tasks)
        assert gate.rows[0] == 4 and max(gate.rows) == 16  # four passages each

    run(work)


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_eight_questions_take_hardly_more_passes_than_one(rag: RAG, gate: Gate, decoder: str) -> None:
    """Where passes are what costs, eight clients get several times the answers of one."""
    way, alone = {"decoder": decoder, "prune": 0.0}, []
    for question in ASKED:
        gate.rows.clear()
        rag.ask(question, **way)
        alone.append(len(gate.rows))

    async def work(questions: Questions) -> None:
        gate.shut()
        tasks = [asyncio.ensure_future(answered(questions, rag, ASKED[0], **way))]
        await until(gate.reached.is_set)
        tasks += [asyncio.ensure_future(answered(questions, rag, q, **way)) for q in (*ASKED[1:], *ASKED)]
        await until(lambda: questions.batches.answers == 2 * len(ASKED))
        gate.rows.clear()
        gate.opened.set()
        await asyncio.gather(*tasks)
        assert len(gate.rows) <= 1 + max(alone) < 2 * sum(alone) / 3

    run(work, Limits(rows=1000))


def test_tokens_come_one_by_one_where_the_decoder_streams(rag: RAG, gate: Gate) -> None:
    async def work(questions: Questions) -> None:
        gate.shut()
        async with questions.ask(rag, COD, {"decoder": "greedy"}) as asked:
            stream = await asked.stream()
            assert stream.decoder.streams and stream.retrieval.passages and not stream.may_abstain
            first = await asked.__anext__()
            assert first.text == "nine" and not gate.opened.is_set()
            gate.opened.set()
            assert first.text + "".join([token.text async for token in asked]) == "nine crowns a year"
            assert (await asked.answer()).text == "nine crowns a year"

    run(work)


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_one_that_is_closed_leaves_the_batch_and_the_others_go_on(decoder: str, rag: RAG, gate: Gate) -> None:
    alone = rag.ask(ASKED[1], decoder=decoder, prune=0.0)

    async def work(questions: Questions) -> None:
        gate.shut()
        asked = [questions.ask(rag, question, {"decoder": decoder, "prune": 0.0}) for question in ASKED[:2]]
        tasks = [asyncio.ensure_future(each.answer()) for each in asked]
        await until(lambda: questions.batches.answers == 2 and gate.reached.is_set())
        assert questions.running == 2
        asked[0].close()
        with pytest.raises(StreamClosedError):
            await tasks[0]
        await until(lambda: questions.running == 1)  # while the pass has not ended
        gate.opened.set()
        same(await tasks[1], alone)
        asked[1].close()

    run(work)


def test_a_cancelled_task_gives_its_place_to_another(rag: RAG, gate: Gate) -> None:
    async def work(questions: Questions) -> None:
        gate.shut()
        first = asyncio.ensure_future(answered(questions, rag, COD))
        await until(gate.reached.is_set)
        second, third = (asyncio.ensure_future(answered(questions, rag, question)) for question in ASKED[1:3])
        await until(lambda: questions.waiting == 2)
        second.cancel()
        await until(lambda: questions.waiting == 1)
        first.cancel()
        await until(lambda: (questions.running, questions.waiting) == (1, 0))
        gate.opened.set()
        assert (await third).question == ASKED[2]

    run(work, Limits(threads=1))


def test_an_answer_takes_no_longer_than_the_limit(rag: RAG, gate: Gate) -> None:
    async def work(questions: Questions) -> None:
        gate.shut()
        with pytest.raises(TimeLimitError):
            await answered(questions, rag, COD)
        gate.opened.set()

    run(work, Limits(seconds=0.2))


def test_waiting_counts_against_the_limit(rag: RAG, gate: Gate) -> None:
    async def work(questions: Questions) -> None:
        release = threading.Event()
        holding = asyncio.ensure_future(questions.run(release.wait, seconds=60.0))
        await until(lambda: questions.running == 1)
        with pytest.raises(TimeLimitError):
            await answered(questions, rag, COD)
        assert (questions.running, questions.waiting) == (1, 0)
        release.set()
        assert await holding

    run(work, Limits(threads=1, seconds=0.2))


def test_too_many_are_refused_with_the_time_to_wait(rag: RAG, gate: Gate) -> None:
    async def work(questions: Questions) -> None:
        gate.shut()
        tasks = [asyncio.ensure_future(answered(questions, rag, question)) for question in ASKED[:3]]
        await until(lambda: (questions.running, questions.waiting) == (1, 2))
        with pytest.raises(BusyError) as raised:
            await answered(questions, rag, COD)
        assert raised.value.seconds >= 1
        gate.opened.set()
        assert [each.question for each in await asyncio.gather(*tasks)] == [*ASKED[:3]]

    run(work, Limits(threads=1, waiting=2))


def test_an_error_of_one_question_is_its_own(tmp_path: Path, gate: Gate) -> None:
    """What follows "Mondays" cannot be read, in a pass that all share."""
    with opened(tmp_path, gate, fails_after="Mondays") as rag:
        alone = [rag.ask(question, decoder="greedy") for question in ASKED[:3]]

        async def work(questions: Questions) -> None:
            gate.shut()
            asking = (answered(questions, rag, question, decoder="greedy") for question in ASKED)
            tasks = [asyncio.ensure_future(each) for each in asking]
            await until(lambda: questions.batches.answers == 4)
            gate.opened.set()
            *found, error = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(error, ValueError) and str(error) == "nothing follows Mondays"
            for mine, other in zip(found, alone, strict=True):
                assert isinstance(mine, Answer)
                same(mine, other)
            with pytest.raises(QuestionError):
                await answered(questions, rag, " ")

        run(work)


def test_the_work_of_run_ends_though_its_client_has_gone() -> None:
    async def work(questions: Questions) -> None:
        release, ended = threading.Event(), threading.Event()

        def upload() -> None:
            release.wait()
            ended.set()

        task = asyncio.ensure_future(questions.run(upload))
        await until(lambda: questions.running == 1)
        task.cancel()
        await asyncio.sleep(0)
        assert questions.running == 1
        release.set()
        await until(ended.is_set)

    run(work)


def test_run_returns_and_raises_what_its_work_does() -> None:
    def fails() -> None:
        raise TimeoutError("of a server that is asked")

    async def work(questions: Questions) -> None:
        assert await questions.run(lambda: 7) == 7
        with pytest.raises(TimeoutError, match="of a server"):
            await questions.run(fails)

    run(work)


class Failures:
    """Which errors ended a question."""

    def __init__(self) -> None:
        self.found = list[str]()

    def asked(self, _: RAG) -> Watched:
        failures = self.found

        class One(Watched):
            def failed(self, error: BaseException) -> None:
                failures.append(type(error).__name__)

        return One()


def test_a_refusal_is_a_failure_and_a_client_that_leaves_is_none(rag: RAG, gate: Gate) -> None:
    async def work(questions: Questions) -> None:
        failures = Failures()
        questions.watches = [failures]
        gate.shut()
        first = asyncio.ensure_future(answered(questions, rag, COD))
        await until(gate.reached.is_set)
        second = asyncio.ensure_future(answered(questions, rag, ASKED[1]))
        await until(lambda: questions.waiting == 1)
        with pytest.raises(BusyError):
            await answered(questions, rag, ASKED[2])
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        gate.opened.set()
        assert failures.found == ["BusyError"]

    run(work, Limits(threads=1, waiting=1))


def test_an_explanation_needs_no_second_place(rag: RAG) -> None:
    async def work(questions: Questions) -> None:
        async with questions.ask(rag, COD, {}) as asked:
            await asked.answer()
            questions.end()  # nothing else may begin
            assert (await asked.explain()).components

    run(work)


def test_clients_take_turns(rag: RAG) -> None:
    async def work(questions: Questions) -> None:
        release, order = threading.Event(), list[str]()
        holding = asyncio.ensure_future(questions.run(release.wait))
        names = ["a1", "a2", "a3", "b1", "b2"]
        tasks = [asyncio.ensure_future(questions.run(lambda n=name: order.append(n), name[0])) for name in names]
        await until(lambda: questions.waiting == 5)
        release.set()
        await asyncio.gather(holding, *tasks)
        assert order == ["a1", "b1", "a2", "b2", "a3"]

    run(work, Limits(threads=1))


def test_at_the_end_what_has_begun_ends_and_all_else_is_refused(rag: RAG, gate: Gate) -> None:
    async def work(questions: Questions) -> None:
        gate.shut()
        first = asyncio.ensure_future(answered(questions, rag, COD))
        await until(gate.reached.is_set)
        waiting = asyncio.ensure_future(answered(questions, rag, ASKED[1]))
        await until(lambda: questions.waiting == 1)
        questions.end()
        with pytest.raises(ClosingError):
            await waiting
        with pytest.raises(ClosingError):
            await questions.run(lambda: None)
        gate.opened.set()
        assert (await first).text == "nine crowns a year"

    run(work, Limits(threads=1))


def test_a_closed_answer_is_not_begun_again(rag: RAG) -> None:
    async def work(questions: Questions) -> None:
        asked: Asked = questions.ask(rag, COD, {})
        asked.close()
        with pytest.raises(StreamClosedError):
            await asked.answer()

    run(work)
