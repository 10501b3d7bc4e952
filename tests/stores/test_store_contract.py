import threading

import numpy as np
import pytest

from fake_corpus import FakeEncoder, check_sound, content, run
from mixrag.corpus import Counts, Store, WordSplitter
from mixrag.errors import (
    StoreBusyError,
    StoreError,
)

FILE = "mixrag.sqlite"


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)


# opening


def test_create_then_open(tmp_path):
    Store.open(tmp_path / "a" / "b", create=True).close()
    with Store.open(tmp_path / "a" / "b") as store:
        assert store.counts() == Counts(0, 0, 0) and store.generation == 0 and store.encoder is None
        rows, vectors = store.vectors()
        assert rows.shape == (0,) and vectors.shape == (0, 0)
        assert store.query("PRAGMA journal_mode") == [("wal",)]


def test_a_second_indexing_run_waits_or_gives_up(store, backend, folder):
    write(folder, a="text")
    with backend.reopen(timeout=0.05) as second, store.writing():
        with pytest.raises(StoreBusyError):
            run(second, folder)
        with pytest.raises(StoreBusyError):
            second.remove(folder)
    run(store, folder)


# reading


def test_passages_in_the_order_asked(store, folder):
    write(folder, a="Alpha\n\n" + " ".join(f"a{i}" for i in range(20)), b="Beta\n\nsome text")
    run(store, folder)
    rows, _ = store.vectors()
    passages = store.passages(rows[::-1])
    assert [p.id for p in passages] == [p.id for p in store.passages(rows)][::-1]
    texts = {str(folder / f"{name}.md"): (folder / f"{name}.md").read_text() for name in "ab"}
    for passage in passages:
        assert texts[passage.document][passage.start : passage.end] == passage.text
        digest, ordinal = passage.id.split(":")
        assert len(digest) == 16 and int(ordinal) >= 0
    with pytest.raises(StoreError, match="no row 999"):
        store.passages([999])


def test_vectors_are_those_of_title_and_text(store, folder, encoder):
    write(folder, a="# Alpha\n" + " ".join(f"a{i}" for i in range(20)))
    (folder / "b.txt").write_text("untitled text")
    run(store, folder, encoder=encoder)
    rows, vectors = store.vectors()
    assert rows.dtype == np.int64 and vectors.dtype == np.float32 and list(rows) == sorted(rows)
    for passage, vector in zip(store.passages(rows), vectors, strict=True):
        title = "Alpha" if passage.document.endswith("a.md") else "b"
        np.testing.assert_array_equal(vector, encoder.vector(f"{title}\n{passage.text}"))


def test_documents_and_titles(store, folder):
    write(folder, a="# Alpha\nbody")
    (folder / "plain-name.txt").write_text("text")
    (folder / "r.jsonl").write_text('{"id": "x", "text": "one", "title": "T"}\n{"id": "y", "text": "two"}')
    run(store, folder)
    shown = [(d.path.removeprefix(f"{folder}/"), d.title, d.passages, d.sources) for d in store.documents()]
    assert shown == [
        ("a.md", "Alpha", 1, 1),
        ("plain-name.txt", "plain name", 1, 1),
        ("r.jsonl#x", "T", 1, 1),
        ("r.jsonl#y", "y", 1, 1),
    ]
    assert store.splitter == "words:5" and store.encoder.name == "name of fake-1" and store.encoder.dimension == 8


def where(store, **filters):
    return sorted(p.text for p in store.passages(store.rows_where(filters)))


def test_rows_where(store, folder):
    (folder / "r.jsonl").write_text(
        '{"id": "x", "text": "one", "title": "T", "year": 1999, "ok": true, "a.b\\"c": "v", "big": null}\n'
        '{"id": "y#1", "text": "two", "year": "1999", "ok": false, "big": 1.5}\n'
    )
    (folder / "plain.txt").write_text("three")
    run(store, folder)
    assert where(store) == ["one", "three", "two"]
    assert where(store, year="1999") == ["one", "two"]
    assert where(store, year="1999", ok="true") == ["one"]
    assert where(store, **{'a.b"c': "v"}) == ["one"]
    assert where(store, big="null") == ["one"] and where(store, big="1.5") == ["two"]
    assert where(store, nothing="x") == []
    assert where(store, title="T") == ["one"] and where(store, title="plain") == ["three"]
    assert where(store, document=str(folder / "plain.txt")) == ["three"]
    assert where(store, document="r.jsonl") == ["one", "two"]
    assert where(store, document="*.jsonl") == ["one", "two"] and where(store, document="files/p*") == ["three"]
    assert where(store, document=f"{folder}/r.jsonl#x") == ["one"]
    assert where(store, document="r.jsonl#y#1") == ["two"]
    assert where(store, document="r.jsonl#z") == [] and where(store, document="jsonl") == []


def test_passages_come_by_document_in_the_order_of_its_text(store, folder, monkeypatch):
    monkeypatch.setattr("mixrag.corpus.store.sql._DOCUMENTS", 2)
    for number in range(5):
        (folder / f"{number}.txt").write_text(" ".join(f"w{number}.{i}" for i in range(3 * number + 1)))
    run(store, folder)
    found = list(store.by_document())
    assert len(found) == 5 and sum(map(len, found)) == store.counts().passages
    for stretches in found:
        passages = store.passages([stretch.row for stretch in stretches])
        assert len({passage.document for passage in passages}) == 1
        assert [(p.start, p.end, p.text) for p in passages] == [tuple(stretch)[1:] for stretch in stretches]
        assert [p.start for p in passages] == sorted(p.start for p in passages)


def test_words_of_passages_are_those_of_title_and_text(store, folder):
    write(folder, a="# Volcano\n\nhot rocks and hot springs")
    run(store, folder, splitter=WordSplitter(20))
    known = {id_: term for term, id_ in store.terms()}
    ((rows, sizes, ids),) = store.words()
    assert rows.tolist() == store.rows_where({}).tolist() and sizes.tolist() == [len(ids)]
    assert sorted(known[id_] for id_ in ids.tolist()) == [
        "and",
        "hot",
        "hot",
        "rock",
        "spring",
        "volcano",
        "volcano",
    ]
    assert store.term_ids(["hot", "cold"]) == {"hot": next(id_ for id_, term in known.items() if term == "hot")}
    assert list(store.words(int(rows[-1]))) == []


def test_generation_moves_with_the_passages_only(store, folder):
    write(folder, a="# one")
    run(store, folder)
    first = store.generation
    run(store, folder)
    write(folder, b="# one")
    run(store, folder)  # a second source of the same content
    assert store.generation == first
    write(folder, a="changed")
    run(store, folder)
    assert store.generation == first + 1
    store.remove(folder / "a.md")
    assert store.generation == first + 2
    (folder / "b.md").unlink()
    (folder / "a.md").unlink()
    run(store, folder)
    assert store.generation == first + 3


# removing


def test_remove_file_and_folder(store, folder):
    (folder / "sub").mkdir()
    (folder / "sub2").mkdir()
    write(folder, a="one", b="two")
    write(folder / "sub", c="three")
    write(folder / "sub2", d="four")
    run(store, folder)
    assert store.remove(folder / "a.md").passages == 1
    removed = store.remove(folder / "sub")
    assert (removed.sources, removed.documents, removed.passages) == (1, 1, 1)
    assert where(store) == ["four", "two"]
    assert store.remove(folder / "nothing").sources == 0
    check_sound(store)


def test_remove_keeps_what_another_source_holds(store, folder):
    write(folder, a="# same text", b="# same text")
    run(store, folder)
    removed = store.remove(folder / "a.md")
    assert (removed.sources, removed.documents, removed.passages) == (1, 0, 0)
    assert [p.document for p in store.passages(store.rows_where({}))] == [str(folder / "b.md")]
    assert store.remove(folder / "b.md").passages == 1
    assert store.counts() == Counts(0, 0, 0)
    check_sound(store)


# threads and processes


def test_several_threads(store, folder):
    write(folder, **{f"f{i}": f"text number {i}" for i in range(20)})
    run(store, folder)
    failures = []

    def read():
        try:
            for _ in range(30):
                rows, _ = store.vectors()
                assert len(store.passages(rows)) == 20
                assert sum(len(rows) for rows, _, _ in store.words()) == 20
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_snapshot_does_not_see_later_changes(store, backend, folder):
    write(folder, a="one")
    run(store, folder)
    with backend.reopen() as reader:
        with reader.snapshot():
            before = content(reader)
            write(folder, a="changed")
            run(store, folder, encoder=FakeEncoder())
            assert content(reader) == before
        assert content(reader) == content(store) != before
