"""Stores that others write to meanwhile, in threads and processes, and that are killed at any instant."""

from __future__ import annotations

import random
import threading
import time
from multiprocessing.connection import Connection

import pytest

from fake_corpus import check_sound
from made_documents import file, put, split, texts_in
from mixrag.corpus import Store
from store_backends import Backend
from warm_process import kill_after, running, sent_until_the_end


def write(messages: Connection, location: str, name: str, number: int) -> None:
    """In a process of its own; says what is done."""
    with Store.open(location, timeout=300) as store:
        messages.send("open")
        for i in range(number):
            put(store, split([f"{name} {i} {part}" for part in range(3)], f"{name}-{i}"))
            messages.send(f"put {i}")
            if i % 3 == 2:
                store.delete([f"{name}-{i - 1}"])
                messages.send(f"deleted {i - 1}")


def documents_of(store: Store, name: str) -> set[int]:
    return {int(each.path.split("-")[1]) for each in store.documents() if each.path.startswith(f"{name}-")}


def test_two_processes_that_write_lose_nothing(store: Store, backend: Backend) -> None:
    rounds = 12 if backend.trials >= 0.3 else 6
    with (
        running(write, store.location, "left", rounds) as (left, said),
        running(write, store.location, "right", rounds) as (right, other_said),
    ):
        assert len(sent_until_the_end(said)) == len(sent_until_the_end(other_said)) == 1 + rounds + rounds // 3
        left.join()
        right.join()
        assert left.exitcode == right.exitcode == 0
    expected = {i for i in range(rounds) if i % 3 != 1}
    assert documents_of(store, "left") == documents_of(store, "right") == expected
    assert store.generation == 2 * (rounds + rounds // 3)
    check_sound(store)


@pytest.mark.usefixtures("short_lease")
def test_kill_9_loses_nothing_that_was_reported_done(backend: Backend) -> None:
    for seed in range(max(2, round(6 * backend.trials))):
        check_kill_9(backend, random.Random(seed).uniform(0, 0.6))
        backend.destroy()


def check_kill_9(backend: Backend, seconds: float) -> None:
    backend.open().close()
    done = [line.split() for line in kill_after(seconds, ["open"], write, backend.location, "w", 10_000)]
    put_, gone = ({int(n) for verb, n in done if verb == word} for word in ("put", "deleted"))
    with backend.reopen(timeout=10) as store:
        found = documents_of(store, "w")
        underway = max(put_, default=-1) + 1  # done, or not, when the process was killed
        assert found - {underway} == put_ - gone or found - {underway} == put_ - gone - {underway - 2}
        assert all(len(each) == 3 for each in store.by_document())
        check_words_and_vectors(store)
        for i in range(underway + 2):
            put(store, split([f"w {i} {part}" for part in range(3)], f"w-{i}"))
        with store.writing():
            store.finish("none")
        assert documents_of(store, "w") == set(range(underway + 2))
        check_sound(store)


def check_words_and_vectors(store: Store) -> None:
    rows, vectors = store.vectors()
    assert len(rows) == len(vectors) == store.counts().passages == sum(len(each) for each, _, _ in store.words())


def test_a_snapshot_is_one_state_while_others_write(store: Store, backend: Backend) -> None:
    put(store, file("/d/a", split(["version 0", "twin 0"])))
    stop, failures = threading.Event(), list[BaseException]()

    def keep_writing() -> None:
        try:
            with backend.reopen() as other:
                for version in range(1, 10_000):
                    if stop.is_set():
                        return
                    put(other, file("/d/a", split([f"version {version}", f"twin {version}"])))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=keep_writing)
    thread.start()
    try:
        seen: set[str] = set()
        until = time.monotonic() + 30
        while len(seen) < 4 and time.monotonic() < until and not failures:
            with store.snapshot():
                first = texts_in(store), store.generation, store.state, store.digest(), store.vectors()[0].tolist()
                with store.snapshot():
                    time.sleep(0.01)
                again = texts_in(store), store.generation, store.state, store.digest(), store.vectors()[0].tolist()
            assert first == again
            version, twin = first[0]
            assert version.split()[1] == twin.split()[1]
            seen.add(version)
    finally:
        stop.set()
        thread.join()
    assert not failures and len(seen) == 4


def test_a_snapshot_is_of_its_thread_alone(store: Store) -> None:
    put(store, split(["one"], "n"))
    found: list[list[str]] = []
    with store.snapshot():
        assert texts_in(store) == ["one"]

        def change() -> None:
            put(store, split(["two"], "n"))
            found.append(texts_in(store))

        thread = threading.Thread(target=change)
        thread.start()
        thread.join()
        assert texts_in(store) == ["one"] and found == [["two"]]
    assert texts_in(store) == ["two"]
