"""The methods of a store one by one, as ``corpus.store.protocol`` states them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_documents import DIMENSION, ENCODER, file, put, split, texts_in, vectors_of
from mixrag.corpus import Counts, EncoderRecord, Notice, Removed, Store
from mixrag.corpus.store.lance.store import LanceStore
from mixrag.corpus.store.prepared import SplitDocument, text_hash
from mixrag.errors import EncoderMismatchError, StoreBusyError, StoreError, StoreMissingError
from store_backends import Backend


def test_a_store_that_is_not_there(backend: Backend) -> None:
    with pytest.raises(StoreMissingError, match="mixrag index"):
        backend.reopen()


def test_a_new_store_is_empty_and_is_there_when_it_is_opened_again(backend: Backend) -> None:
    backend.open().close()
    with backend.reopen() as store:
        assert store.counts() == Counts(0, 0, 0) and store.generation == 0
        assert (store.encoder, store.encoder_fingerprint, store.splitter) == (None, None, None)
        rows, vectors = store.vectors()
        assert rows.shape == (0,) and vectors.shape == (0, 0) and store.vectors_of([]).shape == (0, 0)
        assert rows.dtype == np.int64 and vectors.dtype == np.float32
        assert [*store.words()] == [] == store.terms() and store.documents() == []
        assert [len(each) for each in store.marks()] == [0, 0] and len(store.rows_where({"title": "a"})) == 0


def test_what_names_it_opens_it(store: Store, backend: Backend) -> None:
    with Store.open(store.location) as again:
        assert again.state == store.state and again.name == store.name
    assert store.cache_directory.is_absolute()


def test_a_closed_store_is_refused_in_one_line(backend: Backend) -> None:
    store = backend.open()
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.counts()


def test_put_replaces_what_a_source_had(store: Store) -> None:
    assert put(store, file("/d/a", split(["one", "two"])), split(["three"], "note")) == (3, 0)
    assert put(store, file("/d/a", split(["one", "four"]))) == (2, 2)
    assert put(store, split(["five"], "note"), split([], "empty")) == (1, 1)
    assert texts_in(store) == ["one", "four", "five"] and store.counts() == Counts(3, 3, 3)


def test_row_ids_are_never_given_twice(store: Store) -> None:
    put(store, file("/d/a", split(["one", "two"])))
    before = store.rows_where({})
    store.remove(Path("/d/a"))
    assert store.counts() == Counts(0, 0, 0)
    put(store, file("/d/a", split(["one", "two"])))
    after = store.rows_where({})
    assert after.dtype == np.int64 and after.min() > before.max() and np.all(np.diff(after) > 0)


def test_equal_documents_are_stored_once_and_rows_of_what_stays_do_not_change(store: Store) -> None:
    put(store, file("/d/a", split(["one"])), file("/d/b", split(["one"]), split(["two"], "2")))
    rows, generation = store.rows_where({}).tolist(), store.generation
    assert store.counts() == Counts(2, 2, 3)
    with store.writing():
        assert store.remove_files(["/d/a", "/d/other"]) == Removed(1, 0, 0)
    assert store.rows_where({}).tolist() == rows and store.generation == generation
    with store.writing():
        assert store.remove_files(["/d/b"]) == Removed(2, 2, 2)
    assert store.generation == generation + 1


def test_a_put_that_fails_changes_nothing(store: Store) -> None:
    put(store, file("/d/a", split(["one"])))
    before = store.digest(), store.generation, store.counts()

    def failing() -> Iterator[SplitDocument]:
        yield split(["two"], "b")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), store.writing():
        store.put(failing())
    assert (store.digest(), store.generation, store.counts()) == before
    assert put(store, split(["two"], "b")) == (1, 0)


def test_files_are_known_by_content_and_splitter(store: Store) -> None:
    put(store, file("/d/a", split(["one"]), sha256="ab"), file("/d/ab", split(["two"])))
    put(store, file("/d/a_/x%", split(["three"])), split(["four"], "note"))
    assert store.has_file("/d/a", "ab", "none") and not store.has_file("/d/a", "ab", "words:5")
    assert not store.has_file("/d/a", "ac", "none") and not store.has_file("/d", "ab", "none")
    assert store.files_below("/d") == ["/d/a", "/d/a_/x%", "/d/ab"] and store.files_below("/d/a") == ["/d/a"]
    assert store.files_below("/d/a_") == ["/d/a_/x%"] and store.files_below("/d/a%") == []


def test_notices_are_those_of_the_file_as_it_is(store: Store) -> None:
    notices = Notice("images", 3, "3 images"), Notice("comments", 1)
    put(store, file("/d/a", split(["one"]), notices=notices), file("/d/b", split(["two"]), notices=notices[1:]))
    assert store.notices(["/d/a"]) == [("/d/a", notices[1]), ("/d/a", notices[0])]
    assert len(store.notices({"/d/a", "/d/b", "/d/c"})) == 3 and store.notices([]) == []
    put(store, file("/d/a", split(["one"])))
    assert store.notices(["/d/a", "/d/b"]) == [("/d/b", notices[1])]


def test_documents_from_memory(store: Store) -> None:
    first, second = split(["one"], "n"), split(["two"], "n", title="T")
    put(store, first, split(["one"], "copy"))
    assert store.memory_hash("n") == first.hash and store.memory_hash("m") is None
    put(store, second)
    assert store.memory_hash("n") == second.hash
    assert store.delete(["n", "m"]) == Removed(1, 1, 1) and store.delete(["n"]) == Removed(0, 0, 0)
    assert [each.path for each in store.documents()] == ["copy"]


def test_documents_by_their_names(store: Store) -> None:
    put(store, file("/d/a.jsonl", split(["one"], "1"), split(["two", "three"], "x#y")), split(["four"], "note#1"))
    shown = [(each.path, each.title, each.passages, each.sources) for each in store.documents()]
    assert shown == [("/d/a.jsonl#1", "1", 1, 1), ("/d/a.jsonl#x#y", "x#y", 2, 1), ("note#1", "note#1", 1, 1)]
    row = store.document_row("/d/a.jsonl#x#y")
    assert row is not None and store.files_of(row) == ["/d/a.jsonl"]
    assert (store.extent(row).passages, store.extent(row).pages, store.extent(row).characters) == (2, None, 9)
    assert [p.text for p in store.passages_of(row)] == ["two", "three"]
    assert [p.text for p in store.passages_of(row, offset=3)] == ["three"] and store.passages_of(row, page=1) == []
    assert store.offset_before(row, 4, 1) == 0 and store.offset_before(row, 0, 2) == 0
    note = store.document_row("note#1")
    assert note is not None and store.files_of(note) == []
    assert [store.document_row(name) for name in ("/d/a.jsonl", "a.jsonl#1", "note*", "")] == [None] * 4
    assert store.remove_document("nothing") is None
    assert store.remove_document("/d/a.jsonl#1") == (Removed(1, 1, 1), [])
    assert store.remove_document("/d/a.jsonl#x#y") == (Removed(1, 1, 2), ["/d/a.jsonl"])


def test_moved_files_are_forgotten_and_their_documents_stay(store: Store, tmp_path: Path) -> None:
    here = tmp_path / "here.txt"
    here.write_text("x")
    both = split(["one"])
    put(store, file("/gone/a", both, split(["old"], "r")), file("/gone/b", split(["two"]), sha256="same"))
    put(store, file(str(here), both, sha256="same"), split(["one"], "note"))
    with store.writing():
        assert store.forget_moved([str(here)]) == ["/gone/a", "/gone/b"]
        assert store.forget_moved([str(here)]) == []
    assert store.files_below("/gone") == ["/gone/a"] and texts_in(store) == ["one", "old"]


def test_passages_are_given_in_the_order_asked_or_refused(store: Store) -> None:
    put(store, file("/d/a.txt", split(["one", "two"], title="T", year="2020")))
    rows = store.rows_where({}).tolist()
    second, first = store.passages(rows[::-1])
    assert (first.text, second.text) == ("one", "two") and first.document == "/d/a.txt"
    assert (second.start, second.end, second.title, second.metadata) == (4, 7, "T", {"year": "2020"})
    assert first.id.endswith(":0") and second.id.endswith(":1") and len(first.id) == 18
    for method in (store.passages, store.text_hashes):
        with pytest.raises(StoreError, match="no row 999"):
            method([rows[0], 999])
    assert store.text_hashes(rows[::-1]) == [text_hash("two"), text_hash("one")]


def test_vectors_belong_to_texts(store: Store) -> None:
    put(store, split(["one", "two", "one"], "n"))
    rows, vectors = store.vectors()
    assert rows.tolist() == store.rows_where({}).tolist() and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, vectors_of(["one", "two", "one"]))
    np.testing.assert_array_equal(store.vectors_of(rows[[2, 1, 1]]), vectors[[2, 1, 1]])
    after, rest = store.vectors(int(rows[0]))
    assert after.tolist() == rows[1:].tolist() and np.array_equal(rest, vectors[1:])
    assert len(store.vectors(int(rows[-1]))[0]) == 0
    found, marks = store.marks()
    assert found.tolist() == rows.tolist() and marks.dtype == np.uint64
    assert marks.tolist() == [int.from_bytes(text_hash(text)[:8], "little") for text in ("one", "two", "one")]


def test_words_have_one_number_each_for_ever(store: Store) -> None:
    put(store, split(["rocks and springs", "Springs"], "n", title="Volcano"))
    numbers = dict(store.terms())
    assert {"volcano", "rock", "spring"} <= set(numbers) and min(numbers.values()) > 0
    assert [store.term(number) for number in numbers.values()] == list(numbers) and store.term(10**6) == ""
    assert store.term_ids(["spring", "none"]) == {"spring": numbers["spring"]}
    ((rows, sizes, ids),) = store.words()
    assert rows.tolist() == store.rows_where({}).tolist() and sizes.sum() == len(ids)
    words = {number: term for term, number in numbers.items()}
    assert sorted(words[i] for i in ids[sizes[0] :].tolist()) == ["spring", "volcano"]
    store.delete(["n"])
    put(store, split(["springs of a hotel"], "m"))
    assert store.term_ids(["spring"]) == {"spring": numbers["spring"]}
    assert not {*store.term_ids(["hotel"]).values()} & {*numbers.values()}


def test_vectors_are_there_before_their_passages_and_go_with_the_last_of_them(
    store: Store, backend: Backend
) -> None:
    hashes = [text_hash("one"), text_hash("two")]
    with store.writing():
        store.claim_encoder("made-1")
        store.add_vectors(ENCODER, hashes[:1], vectors_of(["one"]))
    with backend.reopen() as again:  # as the next run would see it
        assert again.missing_vectors("made-1", hashes) == {hashes[1]}
        assert again.missing_vectors("made-2", hashes) == set(hashes)
        assert again.encoder_fingerprint == "made-1" and again.counts().passages == 0
    put(store, split(["one", "two"], "n"))
    with store.writing():
        store.finish("words:5")
    assert store.splitter == "words:5" and store.missing_vectors("made-1", hashes) == set()
    assert store.encoder == ENCODER
    put(store, split(["one"], "n"))
    with store.writing():
        store.finish("words:5")
    assert store.missing_vectors("made-1", hashes) == {hashes[1]}
    store.delete(["n"])
    assert store.missing_vectors("made-1", hashes) == set(hashes)


def test_the_largest_norm_is_a_bound_that_grows_and_never_shrinks(store: Store, backend: Backend) -> None:
    def added(lengths: list[float], encoder: EncoderRecord = ENCODER) -> None:
        hashes = [text_hash(f"{encoder.name} {each}") for each in lengths]
        vectors = np.outer(lengths, np.eye(1, encoder.dimension)).astype(np.float32)
        with store.writing():
            store.add_vectors(encoder, hashes, vectors)

    assert store.largest_norm is None
    with store.writing():
        store.claim_encoder("made-1")
    assert store.largest_norm is None
    for lengths, wanted in (([3.1, 2.0], 3.1), ([0.5], 3.1), ([7.3], 7.3)):
        added(lengths)
        with backend.reopen() as again:
            for each in (store, again):
                assert each.largest_norm is not None
                assert float(np.float32(wanted)) <= each.largest_norm == pytest.approx(wanted, rel=1e-6)
    with store.writing():
        store.finish("words:5")  # no passage uses them: they go, and the bound stays
        assert store.missing_vectors("made-1", [text_hash("made 7.3")])
    assert store.largest_norm == pytest.approx(7.3, rel=1e-6)
    for encoder, length in ((EncoderRecord("other", "other-1", 2), 1.5), (ENCODER, 0.25)):
        added([length], encoder)
        with store.writing():
            store.replace_encoder(encoder.fingerprint, {}, changed=True)
        assert store.largest_norm == pytest.approx(length, rel=1e-6)  # also of an encoder that comes back


def test_a_largest_norm_that_was_not_noted_stays_unknown(store: Store) -> None:
    """As in a store to which an older mixrag added vectors."""
    put(store, split(["one"], "n"))
    assert store.largest_norm is not None
    forget_norms(store)
    assert store.largest_norm is None
    put(store, split(["one", "two"], "n"))
    assert store.largest_norm is None


def forget_norms(store: Any) -> None:
    if isinstance(store, LanceStore):
        with store.writing(), store.transaction() as change:
            change.set(norms={})
    else:
        with store.writing(), store.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = 'largest_norm made-1'")


def test_another_dimension_of_one_encoder_is_refused(store: Store) -> None:
    put(store, split(["one"], "n"))
    with pytest.raises(EncoderMismatchError, match="5 dimensions"), store.writing():
        store.add_vectors(EncoderRecord("made", "made-1", 5), [text_hash("x")], np.zeros((1, 5), np.float32))
    assert store.missing_vectors("made-1", [text_hash("x")]) == {text_hash("x")}


def test_an_encoder_is_replaced_in_one_step(store: Store) -> None:
    put(store, split(["one", "two"], "n"))
    rows, generation = store.rows_where({}).tolist(), store.generation
    other, hashes = EncoderRecord("other", "other-1", 2), [text_hash("T one"), text_hash("T two")]
    new = np.array([[1, 2], [3, 4]], np.float32)
    with store.writing():
        store.add_vectors(other, hashes, new)
        assert store.encoder == ENCODER and store.vectors()[1].shape == (2, DIMENSION)
        store.finish("none")  # what is to come stays
        assert store.missing_vectors("other-1", hashes) == set() and store.generation == generation
        store.replace_encoder("other-1", dict(zip(rows, hashes, strict=True)), changed=True)
    assert store.encoder == other and store.generation == generation + 1
    assert store.vectors()[0].tolist() == rows and np.array_equal(store.vectors()[1], new)
    assert store.text_hashes(rows) == hashes
    assert store.missing_vectors("made-1", [text_hash("one")]) == {text_hash("one")}
    with store.writing():
        store.replace_encoder("other-1", {}, changed=False)
    assert store.generation == generation + 1


def test_sound_vectors_are_not_dropped(store: Store) -> None:
    put(store, split(["one"], "n"))
    with store.writing():
        assert store.drop_damaged_vectors("made-1") == 0 == store.drop_damaged_vectors("none")
    assert np.array_equal(store.vectors()[1], vectors_of(["one"]))


def test_what_readers_watch(store: Store, backend: Backend) -> None:
    seen = [(store.generation, store.state, store.digest())]

    def look() -> None:
        seen.append((store.generation, store.state, store.digest()))

    put(store, file("/d/a", split(["one"])))
    look()
    put(store, file("/d/b", split(["one"])))  # another source of the same
    look()
    put(store, file("/d/a", split(["two"])))
    look()
    generations, states, digests = zip(*seen, strict=True)
    assert generations == (0, 1, 1, 2) and len(set(digests)) == 4 and len(set(states)) >= 3
    assert all(len(each) == 64 for each in digests)
    hashes = sorted(split([text]).hash for text in ("one", "two"))
    assert store.documents_digest() == hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()
    with backend.another().open() as other:
        put(other, file("/d/b", split(["three"])), file("/d/a", split(["two"])))
        put(other, file("/d/b", split(["one"])))
        assert other.documents_digest() == store.documents_digest() and other.state != store.state
        with backend.reopen() as again:
            assert (again.state, again.digest()) == (store.state, store.digest())
    backend.another().destroy()


def test_stores_that_count_the_same_have_different_states(store: Store, backend: Backend) -> None:
    """Documents of a kind often begin and end with the same pages."""
    with backend.another().open() as other:
        assert other.state != store.state, "also empty ones"
        for each, text in ((store, "quarries"), (other, "fisheries")):
            put(each, split(["Imprint"], "1"), split([text], "2"), split(["Licence"], "3"))
        assert (store.generation, store.counts()) == (other.generation, other.counts())
        assert other.state != store.state
    backend.another().destroy()


def test_a_state_does_not_come_back(store: Store, backend: Backend) -> None:
    put(store, split(["one"], "1"))
    seen = [store.state]
    for text in ("two", "one", "two"):
        put(store, split([text], "1"))
        seen.append(store.state)
    store.delete(["1"])
    seen.append(store.state)
    assert len(set(seen)) == 5
    put_again = store.state
    with store.writing():
        store.finish("none")
    assert store.state == put_again, "nothing that is searched has changed"
    with backend.reopen() as again:
        assert again.state == put_again


def test_one_writer_at_a_time(store: Store, backend: Backend) -> None:
    with backend.reopen(timeout=0.1) as second:
        with store.writing():
            for change in (
                lambda: second.delete(["n"]),
                lambda: second.remove(Path("/d")),
                lambda: second.remove_document("n"),
                lambda: put(second, split(["one"], "n")),
            ):
                with pytest.raises(StoreBusyError) as caught:
                    change()
                assert store.name in str(caught.value) and "\n" not in str(caught.value)
            assert second.counts() == Counts(0, 0, 0)  # reading needs no lock
        put(second, split(["one"], "n"))
    assert texts_in(store) == ["one"]


def test_the_part_of_a_corpus_is_in_the_store_itself(backend: Backend) -> None:
    """So that whoever opens it, on any machine, finds it."""
    with backend.open() as store:
        assert store.part is None
        before = store.state
        with store.writing():
            store.claim_part("2/3")
        assert store.part == "2/3" and store.state == before
    with backend.reopen() as store:
        assert store.part == "2/3"
