"""Postings in a file: written once, added to, whole at any instant, and never trusted."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from mixrag.corpus import Document, WordSplitter, add_documents
from mixrag.corpus.store import locks
from mixrag.corpus.store.sqlite.store import SqliteStore as Store
from mixrag.retrieval.lexical import LexicalIndex, files, inverted, open_lexical, opening
from words_encoder import WordsEncoder

TEXTS = [f"harbour fee {number} licence {'cod ' * (number % 4)}number{number % 7}" for number in range(60)]
QUESTIONS = ["harbour licence", "cod number3", "fee 7", "new words", "licence cod cod"]


def add(store: Store, texts: dict[str, str]) -> None:
    encoder = WordsEncoder()
    add_documents(
        store,
        [Document(text, id=id_) for id_, text in texts.items()],
        embed=encoder.encode_passages,
        encoder_fingerprint=encoder.fingerprint,
        encoder_name=encoder.name,
        splitter=WordSplitter(100),
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(opening, "FILE_LIMIT", 0)
    with Store.open(tmp_path / "store", create=True) as store:
        add(store, {f"d{number}": text for number, text in enumerate(TEXTS)})
        yield store


class Reads:
    """From which rows on the words of a store were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after: list[int] = []
        real = Store.words
        monkeypatch.setattr(
            Store, "words", lambda store, after=-1: (self.after.append(after), real(store, after))[1]
        )


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def check(store: Store, index: LexicalIndex | None = None) -> None:
    """Scores are those of an index that was never in a file."""
    index = index or open_lexical(store)
    fresh = LexicalIndex(files.NONE, inverted(Store.words(store)), None, store.term_ids)
    for question in QUESTIONS:
        for mine, other in zip(index.scores(question), fresh.scores(question), strict=True):
            assert mine.tolist() == other.tolist()


def folder(store: Store) -> Path:
    return store.directory / "words"


def test_they_are_written_once_and_then_mapped(store: Store, reads: Reads) -> None:
    first = open_lexical(store)
    second = open_lexical(store)
    assert reads.after == [-1]
    check(store, first)
    check(store, second)
    assert sorted(path.suffix for path in folder(store).iterdir()) == ["", ".bin", ".json"]


def test_what_came_and_went_is_counted_from_the_store(store: Store, reads: Reads) -> None:
    before = open_lexical(store)
    last = int(before.rows[-1])
    store.delete(["d3", "d17"])
    add(store, {"new": "new words about cod", "d5": "harbour harbour"})
    index = open_lexical(store)
    assert reads.after[1:] == [last], "only what is new is read"
    assert len(index) == 59
    check(store, index)
    store.delete(["new"])
    check(store)
    check(store, open_lexical(store))


@pytest.mark.parametrize("change", ["grown", "shrunk"])
def test_they_are_written_again_when_much_has_changed(store: Store, reads: Reads, change: str) -> None:
    open_lexical(store)
    (old,) = folder(store).glob("postings-*")
    if change == "grown":
        add(store, {f"more{number}": f"new words {number}" for number in range(10)})
    else:
        store.delete([f"d{number}" for number in range(15)])
    check(store, open_lexical(store))
    (new,) = folder(store).glob("postings-*")
    assert new != old and reads.after[:2] == [-1, -1]


def test_another_store_in_the_place_of_the_old_one(store: Store, tmp_path: Path, reads: Reads) -> None:
    open_lexical(store)
    with Store.open(tmp_path / "other", create=True) as other:
        add(other, {f"x{number}": f"cod and {number} other words" for number in range(60)})
        folder(other).mkdir()
        for path in folder(store).iterdir():
            (folder(other) / path.name).write_bytes(path.read_bytes())
        check(other, open_lexical(other))
    assert reads.after == [-1, -1, -1]


@pytest.mark.parametrize("content", [b"", b"\0" * 64, "cut", "bit", "longer"])
def test_a_damaged_file_is_written_again(store: Store, reads: Reads, content: Any) -> None:
    open_lexical(store)
    (path,) = folder(store).glob("postings-*")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 8
    path.write_bytes(
        {"cut": whole[:-64], "bit": bytes(flipped), "longer": whole + b"\0" * 64}.get(content, content)
    )
    index = open_lexical(store)
    assert reads.after == [-1, -1]
    check(store, index)


@pytest.mark.parametrize("name", ["places", "starts", "rows", "counts", "lengths"])
def test_postings_that_point_outside_are_not_used(store: Store, reads: Reads, name: str) -> None:
    """Even where whoever changed the file has given it the right checksum."""
    open_lexical(store)
    manifest = json.loads((folder(store) / "words.json").read_text())
    postings, marks = files._opened(folder(store), files._Manifest(**manifest))
    arrays = {"marks": marks, **files._arrays(postings)}
    changed = arrays[name].copy()
    changed[len(changed) // 2] = {"counts": 0}.get(name, -5)
    path = folder(store) / "postings-forged.bin"
    manifest |= {"checksum": files._write(path, {**arrays, name: changed}), "file": path.name}
    assert manifest["checksum"] == zlib.crc32(path.read_bytes())
    (folder(store) / "words.json").write_text(json.dumps(manifest))
    check(store, open_lexical(store))
    assert reads.after[:2] == [-1, -1]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        {"passages": -1},
        {"passages": 10**30},
        {"postings": 10**15},
        {"terms": 1.5},
        {"last_term": "harbour"},
        {"file": "../words/x"},
        {"checksum": 1},
        {"format": 2},
        {"more": 1},
    ],
    ids=lambda content: str(content)[:20],
)
def test_a_damaged_manifest(store: Store, reads: Reads, content: Any) -> None:
    open_lexical(store)
    path = folder(store) / "words.json"
    path.write_text(
        content if isinstance(content, str) else json.dumps({**json.loads(path.read_text()), **content})
    )
    check(store, open_lexical(store))
    assert reads.after[:2] == [-1, -1]


@pytest.mark.parametrize("step", ["_write", "write_atomically", "_remove_other_files"])
def test_a_kill_at_any_step_leaves_whole_files(store: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    before = open_lexical(store)
    add(store, {f"more{number}": f"new words {number}" for number in range(10)})
    real = getattr(files, step)

    def killed(*arguments: Any) -> None:
        if step == "_write":
            real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, step, killed)
        with pytest.raises(KeyboardInterrupt):
            open_lexical(store)
    check(store, open_lexical(store))
    left = 2 if step == "_remove_other_files" else 1  # an old one goes with the next writing
    assert len(list(folder(store).glob("postings-*"))) == left
    assert len(before.scores("cod")[0]) == 60  # who had the old file open goes on reading it


def test_a_full_disk_costs_time_not_the_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    check(store, open_lexical(store))
    assert not list(folder(store).glob("postings-*"))


def test_a_folder_that_cannot_be_written_to(store: Store) -> None:
    folder(store).write_text("a file where the folder should be")
    check(store)


def test_a_snapshot_is_searched_as_it_was(store: Store) -> None:
    open_lexical(store)
    with Store.open(store.directory) as other, other.snapshot():
        assert other.counts().passages == 60
        store.delete(["d1"])
        add(store, {"new": "new words"})
        check(store)
        index = open_lexical(other)
        check(other, index)
        assert len(index) == 60


def test_small_stores_have_no_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "FILE_LIMIT", 60)
    check(store)
    assert not folder(store).exists()


def test_words_that_no_passage_has_any_more(store: Store) -> None:
    add(store, {"z": "zebra"})
    store.delete(["z"])
    index = open_lexical(store)
    assert store.term_ids(["zebra"]) and not index.scores("zebra")[1].any()
    assert np.isfinite(index.scores("zebra fee")[1]).all()


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("harbuor licnce", "harbour licence"),
        ("harbour", "harbour"),
        ("fea", ""),
        ("zebrra", "zebra"),
        ("cot", ""),
        ("licencccce", ""),
        ("1251", ""),
    ],
)
def test_words_with_typing_errors(store: Store, question: str, expected: str) -> None:
    add(store, {"z": "zebra", "y": "zebras zebru", "x": "zebrrra"})
    store.delete(["x"])
    index = open_lexical(store)
    mine, right = index.tolerant().scores(question)[1], index.scores(expected)[1]
    assert mine.tolist() == right.tolist()
    if question != expected:
        assert not index.scores(question)[1].any()


def test_it_waits_while_another_process_writes_the_file(store: Store, monkeypatch, reads: Reads) -> None:
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.02)
    folder, waiting, opened = store.cache_directory / files.FOLDER, Event(), list[LexicalIndex]()
    monkeypatch.setattr(files._logger, "warning", lambda _: waiting.set())
    folder.mkdir()
    with locks.exclusive(folder / "lock", 1.0):
        opening_it = Thread(target=lambda: opened.append(open_lexical(store)))
        opening_it.start()
        assert waiting.wait(30)
        files._rebuilt(folder, store)
    opening_it.join(30)
    assert reads.after == [-1], "all words are read once"
    check(store, *opened)
