"""What is LanceDB's own: commits, tables that are tidied, the index, what a killed or slow writer leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_corpus import check_sound
from made_documents import ENCODER, put, split, texts_in, vectors_of
from mixrag.corpus import EncoderRecord, Store
from mixrag.corpus.store.lance import log, tables, vectors
from mixrag.corpus.store.lance.base import Transaction
from mixrag.corpus.store.lance.store import LanceStore
from mixrag.corpus.store.prepared import text_hash
from mixrag.errors import StoreBusyError, StoreCorruptError, StoreError, StoreMissingError, StoreVersionError
from mixrag.retrieval.index.in_store import InStoreIndex
from store_backends import LanceBackend


@pytest.fixture
def store(lance_backend: LanceBackend) -> LanceStore:
    opened = lance_backend.open()
    assert isinstance(opened, LanceStore)
    return opened


def commits(store: LanceStore) -> list[str]:
    return store.place.names(log.FOLDER)


# commits


def test_the_whole_state_is_written_now_and_then_and_old_commits_go(
    store: LanceStore, lance_backend: LanceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = lance_backend.reopen()
    put(store, split(["first"], "n"))
    assert texts_in(late) == ["first"]
    monkeypatch.setattr(log, "_MANY", 4)
    monkeypatch.setattr(log, "_MOST", 4)
    for number in range(12):
        put(store, split([f"text {number}"], "n"))
    assert len(commits(store)) <= 10 and commits(store)[0] > f"{5:020}"
    assert texts_in(late) == ["text 11"] == texts_in(lance_backend.reopen())
    with store.writing():
        store.finish("none")
    check_sound(store)
    for whole in [name for name in commits(store) if name.endswith(".whole")][:-1]:
        store.place.delete(log.FOLDER, [whole])
    assert texts_in(lance_backend.reopen()) == ["text 11"]


def test_of_two_writers_that_believe_to_have_the_lock_one_commits(store: LanceStore) -> None:
    put(store, split(["one"], "n"))
    slow = Transaction(store.log.latest())
    slow.set(splitter="slow")
    put(store, split(["two"], "m"))
    with pytest.raises(StoreBusyError, match="run this again"):
        store.log.commit(slow.draft, slow.operations, lambda: None)
    assert store.splitter is None and texts_in(store) == ["one", "two"]


def lockless(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a store have the write lock although another one has it, as one does who takes it after its lease."""
    assert isinstance(store, LanceStore)
    monkeypatch.setattr(store.place, "lock", lambda _: nullcontext(lambda: None))
    monkeypatch.setattr(store.place, "can_lose_lock", True)


def test_a_commit_of_a_former_holder_of_the_lock_is_refused_or_seen(
    store: LanceStore, lance_backend: LanceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, split(["one"], "n"))
    slow = Transaction(store.log.latest())
    slow.set(splitter="slow")
    quick = lance_backend.reopen()
    lockless(quick, monkeypatch)
    with quick.writing(), pytest.raises(StoreBusyError, match="run this again"):
        store.log.commit(slow.draft, slow.operations, lambda: None)
    slow = Transaction(store.log.latest())
    slow.set(splitter="slow")
    create = quick.place.create

    def created_later(*arguments: Any) -> None:
        monkeypatch.setattr(quick.place, "create", create)
        store.log.commit(slow.draft, slow.operations, lambda: None)
        create(*arguments)

    monkeypatch.setattr(quick.place, "create", created_later)
    with quick.writing():
        assert quick.splitter == "slow"


def test_vectors_of_a_commit_that_was_under_way_stay(
    store: LanceStore, lance_backend: LanceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, split(["one"], "n"))
    quick, commit = lance_backend.reopen(), store.log.commit
    lockless(quick, monkeypatch)

    def committed_late(*arguments: Any) -> None:
        monkeypatch.setattr(store.log, "commit", commit)
        with quick.writing():
            quick.finish("none")
        commit(*arguments)

    with store.writing():
        store.add_vectors(ENCODER, [text_hash("two")], vectors_of(["two"]))
        monkeypatch.setattr(store.log, "commit", committed_late)
        with pytest.raises(StoreBusyError):
            store.put([split(["two"], "m")])
    put(store, split(["three"], "l"))
    assert texts_in(store) == ["one", "three"]
    check_sound(store)


def test_two_writers_make_two_tables_of_vectors(
    store: LanceStore, lance_backend: LanceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, commit = lance_backend.reopen(), store.log.commit
    lockless(quick, monkeypatch)

    def committed_late(*arguments: Any) -> None:
        monkeypatch.setattr(store.log, "commit", commit)
        put(quick, split(["two"], "m"))
        commit(*arguments)

    with store.writing():
        monkeypatch.setattr(store.log, "commit", committed_late)
        with pytest.raises(StoreBusyError):
            store.add_vectors(ENCODER, [text_hash("one")], vectors_of(["one"]))
    assert quick.vectors()[1].tolist() == vectors_of(["two"]).tolist()


def test_another_writer_of_the_table_is_noticed(store: LanceStore) -> None:
    put(store, split(["one"], "n"))
    table = store.tables.latest(tables.PASSAGES)
    put(store, split(["two"], "m"))
    with pytest.raises(StoreBusyError):
        store.tables.add(table, store.tables.latest(tables.PASSAGES).to_arrow())
    put(store, split(["three"], "l"))
    assert texts_in(store) == ["one", "two", "three"]


def test_passages_without_a_commit_are_never_seen(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, split(["one"], "n"))
    with monkeypatch.context() as patched:
        patched.setattr(store.log, "commit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            put(store, split(["never", "never"], "m"))
    assert store.tables.latest(tables.PASSAGES).count_rows() == 3
    assert texts_in(store) == ["one"] and store.vectors()[1].shape == (1, 4)
    put(store, split(["two"], "m"))
    assert texts_in(store) == ["one", "two"]
    with store.writing():
        store.finish("none")
    check_sound(store)


def columns_read(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read as a whole from now on."""
    read, column = list[str](), store.tables.column

    def counted(table: Any, name: str, **more: bool) -> Any:
        read.append(name)
        return column(table, name, **more)

    monkeypatch.setattr(store.tables, "column", counted)
    return read


def test_a_writer_reads_once_which_texts_have_vectors(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, split(["one", "two"], "n"))
    texts = [f"text {number}" for number in range(6)]
    read = columns_read(store, monkeypatch)
    with store.writing():
        for each in texts:
            wanted = {text_hash("one"), text_hash("two"), text_hash(texts[0]), text_hash(each)}
            missing = store.missing_vectors("made-1", wanted)
            assert missing == {text_hash(each)}
            store.add_vectors(ENCODER, sorted(missing), vectors_of([each]))
        assert store.missing_vectors("made-1", [*map(text_hash, texts)]) == set()
        assert read == ["text_hash"]
        store.put([split(texts[:2], "m")])
        store.finish("none")  # it deletes what no passage uses
        assert store.missing_vectors("made-1", {text_hash(each) for each in texts}) == set(
            map(text_hash, texts[2:])
        )
    assert store.missing_vectors("made-1", {text_hash("one"), text_hash("x")}) == {text_hash("x")}
    check_sound(store)


def test_places_of_vectors_are_read_again_only_where_tables_changed(
    store: LanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, split(["one", "two"], "n"))
    assert len(store.vectors()[1]) == 2
    read = columns_read(store, monkeypatch)
    with store.writing(), store.transaction() as change:
        change.set(splitter="other")
    assert len(store.vectors()[1]) == 2 and not read
    put(store, split(["three"], "m"))
    assert len(store.vectors()[1]) == 3


# many small additions


def test_small_parts_are_rewritten_and_old_versions_go_but_not_those_of_a_snapshot(
    store: LanceStore, lance_backend: LanceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MANY", 4)
    reader = lance_backend.reopen()
    put(store, split(["old 1", "old 2"], "old"))
    with reader.snapshot():
        before = reader.vectors()[1]
        put(store, split(["other"], "old"))
        for number in range(10):
            put(store, split([f"text {number}"], f"n{number}"))
        with store.writing():
            store.finish("none")
        assert reader.tables._open.clear() is None  # type: ignore[attr-defined]
        assert texts_in(reader) == ["old 1", "old 2"] and np.array_equal(reader.vectors()[1], before)
    parts = store.tables.latest(tables.PASSAGES).stats()["fragment_stats"]["num_fragments"]
    assert parts < 8 and "passages" in store.now.settings["rewritten"]
    last = store.tables.latest(tables.PASSAGES).version
    time.sleep(0.3)
    monkeypatch.setattr(tables, "RETENTION", timedelta(0))
    monkeypatch.setattr(tables, "_MARGIN", timedelta(seconds=0.2))
    for number in range(10):
        put(store, split([f"more {number}"], f"m{number}"))
    versions = store.tables.latest(tables.PASSAGES).list_versions()
    assert versions[0]["version"] >= last
    assert len(texts_in(reader)) == 21
    check_sound(store)


@pytest.mark.parametrize("hours", [-3, 3])
def test_clocks_of_writers_decide_nothing(
    store: LanceStore, lance_backend: LanceBackend, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr(tables, "_MANY", 4)
    put(store, split(["old 1", "old 2"], "old"))
    reader, listed = lance_backend.reopen(), type(store.tables.latest(tables.PASSAGES)).list_versions
    skew = timedelta(hours=hours)

    def skewed(table: Any) -> list[dict[str, Any]]:
        """Versions before the last ones are of another machine."""
        found = listed(table)
        return [each | {"timestamp": each["timestamp"] + skew} for each in found[:-2]] + found[-2:]

    monkeypatch.setattr(type(store.tables.latest(tables.PASSAGES)), "list_versions", skewed)
    with reader.snapshot():
        for number in range(10):
            put(store, split([f"text {number}"], f"n{number}"))
        reader.tables._open.clear()
        assert texts_in(reader) == ["old 1", "old 2"]


def test_which_versions_a_snapshot_can_still_need() -> None:
    assert tables.needless([], 7, 1000.0) == (0, [(7, 1000.0)])
    assert tables.needless([(7, 1000.0)], 9, 1010.0) == (0, [(7, 1000.0)])
    assert tables.needless([(7, 1000.0)], 9, 1900.0) == (0, [(7, 1000.0), (9, 1900.0)])
    assert tables.needless([(7, 1000.0), (9, 1900.0)], 12, 4600.0) == (7, [(7, 1000.0), (9, 1900.0), (12, 4600.0)])
    assert tables.needless([(7, 1000.0), (9, 1900.0)], 12, 9000.0) == (9, [(9, 1900.0), (12, 9000.0)])
    assert tables.needless([(7, 5000.0)], 9, 1000.0) == (0, [(7, 1000.0)])  # the clock went back


def test_a_table_that_was_dropped_by_a_clock_ahead_stays(store: LanceStore) -> None:
    put(store, split(["one"], "n"))
    with store.writing():
        store.add_vectors(EncoderRecord("other", "other-1", 2), [text_hash("one")], np.ones((1, 2), "f4"))
        store.replace_encoder("other-1", {}, changed=True)
        with store.transaction() as change:
            change.set(dropped={name: since + 60 for name, since in change.now.settings["dropped"].items()})
        store.finish("none")
    assert len(store.now.settings["dropped"]) == 1 and len(store.tables.names()) == 3


def test_tables_of_former_encoders_go_when_no_snapshot_needs_them(
    store: LanceStore, lance_backend: LanceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, split(["one"], "n"))
    reader = lance_backend.reopen()
    with reader.snapshot():
        with store.writing():
            store.add_vectors(EncoderRecord("other", "other-1", 2), [text_hash("one")], np.ones((1, 2), "f4"))
            store.replace_encoder("other-1", {}, changed=True)
            store.finish("none")
        assert reader.encoder == ENCODER and reader.vectors()[1].shape == (1, 4)
    assert reader.vectors()[1].tolist() == [[1, 1]] and len(store.now.settings["dropped"]) == 1
    monkeypatch.setattr("mixrag.corpus.store.lance.store.RETENTION", timedelta(0))
    with store.writing():
        store.finish("none")
    assert store.now.settings["dropped"] == {} and len(store.tables.names()) == 2
    check_sound(store)


# the index


def test_what_the_index_finds_has_exact_products(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "INDEXED", 500)
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((12, 16))
    made = (centres[draw.integers(0, 12, 900)] + 0.4 * draw.standard_normal((900, 16))).astype("<f4")
    texts = [f"text {number}" for number in range(900)]
    with store.writing():
        store.claim_encoder("drawn-1")
        store.add_vectors(EncoderRecord("drawn", "drawn-1", 16), [text_hash(each) for each in texts], made)
        store.put([split(texts[start : start + 90], str(start)) for start in range(0, 900, 90)])
        store.put([split([texts[5], texts[6]], "copies")])
        store.finish("none")
    table = store.vector_table(store.now)
    assert table is not None and len(table[1].list_indices()) == 1
    monkeypatch.setattr("mixrag.retrieval.index.in_store.FLAT_LIMIT", 10)
    index, (rows, every) = InStoreIndex(store, 902), store.vectors()
    found = 0
    for question in draw.standard_normal((20, 16)).astype("f4"):
        hits, products = index.search(question, 10), every @ question
        assert np.allclose(hits.inner_products, products[np.searchsorted(rows, hits.rows)], atol=1e-5)
        assert len(set(hits.rows.tolist())) == 10
        found += len(np.intersect1d(hits.rows, rows[np.argsort(-products)[:10]]))
        allowed = rows[draw.random(len(rows)) < 0.2]
        some = index.search(question, 10, allowed)
        assert len(some.rows) == 10 and np.isin(some.rows, allowed).all()
    assert found >= 190
    monkeypatch.setattr(vectors, "_WIDEST", 0)  # where the index gives too few, all that are allowed are read
    exact = store.nearest(every[0], 10, rows[:300])
    assert set(exact[:10].tolist()) == set(rows[np.argsort(-(every[:300] @ every[0]))[:10]].tolist())


@pytest.mark.parametrize(
    ("k", "rows", "read"), [(26, 1000, 260), (26, 100_000, 494), (26, 10**6, 4992), (26, 10**8, 19_994)]
)
def test_a_search_reads_more_vectors_where_there_are_more(k: int, rows: int, read: int) -> None:
    """Else it misses the more of the nearest ones, the more vectors there are."""
    assert k * tables.refinement(k, rows) == read
    assert 15_000 * tables.refinement(15_000, rows) == 30_000, "two of each one asked for in any case"


def test_the_index_is_trained_again_as_the_store_grows(
    store: LanceStore, lance_backend: LanceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LanceDB adds what comes to the partitions of the beginning, whatever their number has become."""
    monkeypatch.setattr(tables, "INDEXED", 300)

    def grown_to(count: int) -> str:
        """Which index there is with so many vectors."""
        with store.writing():
            have = store.counts().passages
            texts = [f"text {number}" for number in range(have, count)]
            drawn = np.random.default_rng(count).standard_normal((len(texts), 16)).astype("<f4")
            store.claim_encoder("drawn-1")
            store.add_vectors(EncoderRecord("drawn", "drawn-1", 16), [text_hash(each) for each in texts], drawn)
            store.put([split(texts, str(count))])
            store.finish("none")
        table = store.vector_table(store.now)
        assert table is not None
        return "".join(each.index_uuid for each in table[1].list_indices())

    assert grown_to(300) == "" and store.now.settings["trained"] == {}
    first = grown_to(400)
    assert first and [*store.now.settings["trained"].values()] == [400]
    assert grown_to(1500) == first
    old = store.vector_table(store.now)
    second = grown_to(1600)
    assert second != first and [*store.now.settings["trained"].values()] == [1600]
    assert old is not None and old[1].list_indices()[0].index_uuid == first, "snapshots keep theirs"
    with lance_backend.reopen() as again:
        assert isinstance(again, LanceStore) and [*again.now.settings["trained"].values()] == [1600]
    with store.writing(), store.transaction() as change:  # as an older version leaves it
        change.set(trained={})
    assert grown_to(1601) not in (first, second), "what it was trained on is not known"
    assert [*store.now.settings["trained"].values()] == [1601]


# errors


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text and "secret" not in text and len(text) < 600
    return text


def test_what_is_no_store_is_refused_in_one_line(lance_backend: LanceBackend, tmp_path: Path) -> None:
    import lancedb

    lancedb.connect(tmp_path / "store").create_table("things", [{"x": 1}])
    for create in (True, False):
        with pytest.raises(StoreCorruptError, match="things of another application") as error:
            Store.open(lance_backend.location, create=create)
        one_line(error)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError) as error:
        Store.open(f"lance:{tmp_path}/file", create=True)
    one_line(error)
    with pytest.raises(StoreMissingError):
        Store.open(f"lance:{tmp_path}/nothing")
    assert not (tmp_path / "nothing").exists()


def test_damaged_stores_are_refused_in_one_line(lance_backend: LanceBackend, store: LanceStore) -> None:
    put(store, split(["one"], "n"))
    last = commits(store)[-1]
    folder = Path(store.place.uri) / log.FOLDER
    content = (folder / last).read_bytes()
    (folder / last).write_bytes(content[:-4])
    with pytest.raises(StoreCorruptError, match="damaged commit") as error:
        lance_backend.reopen()
    one_line(error)
    (folder / last).write_bytes(log._packed([["settings", {"version": 99}]]))
    with pytest.raises(StoreVersionError, match="upgrade mixrag"):
        lance_backend.reopen()
    (folder / last).write_bytes(content)
    store.tables.drop("passages")
    with lance_backend.reopen() as again, pytest.raises(StoreCorruptError, match="no table passages") as error:
        texts_in(again)
    one_line(error)


def test_vectors_that_are_no_numbers_are_named_and_computed_again(store: LanceStore) -> None:
    with store.writing():
        store.claim_encoder("made-1")
        store.add_vectors(ENCODER, [text_hash("one")], np.full((1, 4), np.inf, "f4"))
        store.put([split(["one"], "n")])
    with pytest.raises(StoreCorruptError, match=r"infinity.*re-embed"):
        store.vectors()
    with store.writing():
        assert store.drop_damaged_vectors("made-1") == 1
        assert store.missing_vectors("made-1", [text_hash("one")]) == {text_hash("one")}


def test_a_folder_that_vanishes_is_named(store: LanceStore, lance_backend: LanceBackend) -> None:
    put(store, split(["one"], "n"))
    lance_backend.destroy()
    for method in (store.counts, store.vectors, lambda: put(store, split(["two"], "n"))):
        with pytest.raises(StoreError) as error:
            method()
        assert "store" in one_line(error)


def test_nothing_is_written_to_stderr(lance_backend: LanceBackend) -> None:
    script = (
        "import sys; sys.path[:0] = sys.argv[2].split(':')\n"
        "from made_documents import put, split, texts_in\nfrom mixrag.corpus import Store\n"
        "with Store.open(sys.argv[1], create=True) as store:\n"
        "    for n in range(3): put(store, split([f'text {n}'], 'n'))\n"
        "    assert texts_in(store) == ['text 2'] and len(store.vectors()[0]) == 1\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, lance_backend.location, ":".join(sys.path)]
    environment = {key: value for key, value in os.environ.items() if key != "LANCEDB_LOG"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
