"""One RAG asked from many threads, while other threads and processes change its store."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, Document, Generator, Settings
from mixrag.answers import store_models
from mixrag.corpus import Passage, Store
from mixrag.errors import StoreError
from mixrag.retrieval.index import choice
from mixrag.utils import turns
from mixrag.utils.turns import turn
from words_encoder import WordsEncoder

Loaded = Callable[[str], Generator]
THREADS = 4
QUESTIONS = 150
"""That each thread asks at least; more, until both writers have written."""


@pytest.fixture
def rag(tmp_path: Path, tiny_generator: Loaded) -> Iterator[RAG]:
    store = Store.open(tmp_path / "store", create=True, timeout=300)
    settings = Settings(max_tokens=6)
    with RAG(store, encoder=WordsEncoder(), generator=tiny_generator("llama-chat"), settings=settings) as rag:
        rag.add([Document(f"stone number {i} weighs {3 * i} pounds", id=f"stone-{i}") for i in range(40)])
        yield rag


WRITER = """
import sys, time
sys.path[:0] = sys.argv[2].split(":")
from pathlib import Path
from mixrag.corpus import Document, Store, WordSplitter, add_documents, documents_in
from words_encoder import WordsEncoder
encoder = WordsEncoder()
with Store.open(Path(sys.argv[1]), timeout=300) as store:
    print("open", flush=True)
    for version in range(1, 100_000):
        twins = [Document(f"twin {side} version {version}", id=f"twin-{side}") for side in ("left", "right")]
        add_documents(
            store, documents_in(twins), embed=encoder.encode_passages, encoder_fingerprint=encoder.fingerprint,
            encoder_name=encoder.name, splitter=WordSplitter(), embedding_text=encoder.passage_text)
        time.sleep(0.01)  # the other writer's turn
"""


def check_noise(passage: Passage) -> None:
    """Id and text belong together: both were written in one transaction."""
    number = passage.document.removeprefix("noise-")
    assert passage.text.split()[1] == number and passage.metadata == {"number": number}


@pytest.mark.parametrize("limit", [50_000, 10], ids=["exact", "files"])
def test_every_question_sees_one_state_of_a_store_that_others_change(
    rag: RAG, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twins are always updated in one transaction: who sees two versions has seen two states."""
    if limit == 10:
        monkeypatch.setattr(choice, "FLAT_LIMIT", limit)
    paths = ":".join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(rag.store.directory), paths], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"open\n"
    stop, versions = threading.Event(), set[str]()
    generation = rag.store.generation

    def change() -> None:
        for i in range(1_000_000):
            if stop.is_set():
                return
            rag.add([Document(f"noise {i}", id=f"noise-{i}", metadata={"number": str(i)})])
            rag.delete([f"noise-{i - 3}"])
            time.sleep(0.01)  # the other writer's turn

    def ask() -> None:
        for i in itertools.count():
            both_wrote = len(versions) > 3 and rag.store.generation > generation + 10
            if both_wrote and i >= (QUESTIONS if limit > 10 else QUESTIONS // 25):
                return
            twins = rag.passages("twin left right version", k=2, where={"document": "twin-*"} if i % 2 else {})
            seen = {p.text.split()[-1] for p in twins.passages if p.document.startswith("twin-")}
            if len(twins.passages) == 2 and all(p.document.startswith("twin-") for p in twins.passages):
                assert len(seen) == 1, seen
                versions.update(seen)
            for passage in rag.passages("noise noise noise", k=5).passages:
                if passage.document.startswith("noise-"):
                    check_noise(passage)

    try:
        while not rag.store.rows_where({"document": "twin-*"}).size:
            time.sleep(0.01)
        with ThreadPoolExecutor(THREADS + 1) as pool:
            changing = pool.submit(change)
            try:
                for asking in [pool.submit(ask) for _ in range(THREADS)]:
                    asking.result()
            finally:
                stop.set()
            changing.result()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_snapshot_of_one_thread_is_not_that_of_another(rag: RAG) -> None:
    def add_and_count() -> int:
        rag.add([Document("new", id="new")])
        return rag.store.counts().documents

    with rag.store.snapshot(), ThreadPoolExecutor(1) as pool:
        before = rag.store.counts().documents
        assert pool.submit(add_and_count).result() == before + 1  # neither waits for the other
        assert rag.store.counts().documents == before
    assert rag.store.counts().documents == before + 1


def test_the_index_is_opened_once_for_each_state(rag: RAG, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixrag.retrieval import snapshots

    opened, inside = list[int](), threading.Semaphore(1)

    def counting(store: Store, kind: Any) -> Any:
        assert inside.acquire(blocking=False), "two at once"
        opened.append(store.generation)
        time.sleep(0.05)
        inside.release()
        return choice.open_index(store, kind)

    monkeypatch.setattr(snapshots, "open_index", counting)
    for _ in range(2):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: rag.passages("stone", k=3).passages, range(8)))
        assert all(each == found[0] for each in found)
        rag.add([Document("another stone")])
    assert len(opened) == 2 and opened[0] < opened[1]


def test_each_model_is_loaded_once_and_never_two_at_a_time(
    tmp_path: Path, tiny_generator: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, inside = list[str](), threading.Semaphore(1)

    def loading(name: str, result: Any) -> Callable[..., Any]:
        def load(*_: Any, **__: Any) -> Any:
            assert inside.acquire(blocking=False), "two at once"
            calls.append(name)
            time.sleep(0.05)
            inside.release()
            return result

        return load

    monkeypatch.setattr(store_models, "configured_encoder", loading("encoder", WordsEncoder()))
    monkeypatch.setattr(store_models, "load_configured", loading("generator", tiny_generator("llama-chat")))
    rags = [RAG.open(tmp_path / str(i), create=True) for i in range(2)]
    asked = [(rag, name) for rag in rags for name in ("encoder", "generator")] * 4
    with ThreadPoolExecutor(len(asked)) as pool:
        found = list(pool.map(lambda each: getattr(*each), asked))
    assert sorted(calls) == ["encoder"] * 2 + ["generator"] * 2 and None not in found
    for rag in rags:
        rag.close()


@pytest.mark.parametrize("kind", ["llama-chat", "t5"])
def test_answers_of_many_threads_are_those_of_one(rag: RAG, kind: str, tiny_generator: Loaded) -> None:
    asking = RAG(rag.store, encoder=rag.encoder, generator=tiny_generator(kind), settings=rag.settings)
    questions = [f"What does stone number {i} weigh?" for i in range(12)]
    alone = [(a.text, a.log_prob) for a in map(asking.ask, questions)]

    def ask(start: int) -> list[tuple[str | None, float]]:
        some = questions[start:] + questions[:start]
        streams = [asking.stream(question) for question in some] if start % 2 else []
        answers = [stream.answer for stream in streams] or asking.ask_many(some)
        answers = answers[len(some) - start :] + answers[: len(some) - start]
        return [(a.text, a.log_prob) for a in answers]

    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(ask, range(THREADS)):
            assert [text for text, _ in found] == [text for text, _ in alone]
            assert [p for _, p in found] == pytest.approx([p for _, p in alone], abs=1e-4)


def test_a_language_model_and_its_tokenizer_do_one_call_at_a_time(rag: RAG) -> None:
    generator: Any = rag.generator
    model, tokenizer = generator.model, generator.tokens.tokenizer
    active, most = 0, 0

    def enter(*_: Any) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        time.sleep(0.002)

    def leave(*_: Any) -> None:
        nonlocal active
        active -= 1

    hooks = [model.register_forward_pre_hook(enter), model.register_forward_hook(leave)]
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda i: rag.score(f"stone number {i}", "nine pounds"), range(8)))
    finally:
        for hook in hooks:
            hook.remove()
    assert most == 1
    with ThreadPoolExecutor(1) as pool:
        with turn(tokenizer):
            waiting = pool.submit(generator.prompt, "stone", [], 4)
            time.sleep(0.05)
            assert not waiting.done()
        assert waiting.result().question


def test_things_take_turns_by_themselves() -> None:
    class Slots:
        __slots__ = ()

    first, second = threading.Thread(), threading.Thread()
    assert turn(first) is turn(first) and turn(first) is not turn(second)
    assert turn(Slots()) is turn(Slots())  # cannot be referred to weakly
    with turn(first), turn(first):  # the same thread may enter again
        pass
    places = {id(first), id(second)}
    assert places <= turns._LOCKS.keys()
    del first, second
    gc.collect()
    assert not places & turns._LOCKS.keys()  # what is gone leaves nothing behind


def test_a_stream_that_is_not_finished_stops_nobody(rag: RAG) -> None:
    """Between its tokens it holds no lock and no snapshot; what it has retrieved stays what it was."""
    stream = rag.stream("What does stone number 7 weigh?", k=3, prune=0.0)
    expected = rag.ask("What does stone number 7 weigh?", k=3, prune=0.0)
    next(iter(stream))
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(lambda: rag.ask("What does stone number 9 weigh?", k=3))
        gone = pool.submit(lambda: rag.delete([f"stone-{i}" for i in range(40) if i != 9]))
        assert other.result(60).passages and gone.result(60).documents == 39
    assert stream.answer.log_prob == pytest.approx(expected.log_prob, abs=1e-4)


def test_a_closed_store_says_so(rag: RAG) -> None:
    with rag.store.snapshot(), ThreadPoolExecutor(1) as pool:
        pool.submit(rag.close).result()
        assert rag.store.counts().documents == 40  # this thread's snapshot is open until it ends
    with pytest.raises(StoreError, match="found a closed one; open it again"):
        rag.passages("stone")
