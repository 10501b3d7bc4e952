"""Documents from memory: what is taken and refused, the guarantees of files, the format of the store."""

import json
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from fake_corpus import FakeEncoder, check_sound, content, run
from mixrag.corpus import (
    Document,
    Store,
    WordSplitter,
    add_documents,
    content_id,
    documents_in,
    documents_of_texts,
)
from mixrag.errors import EncoderMismatchError, SourceError
from store_backends import SqliteBackend
from warm_process import kill_after


def words(tag, count=12):
    return " ".join(f"{tag}{i}" for i in range(count))


def add(store, documents, encoder=None, splitter=None, **options):
    encoder = encoder or FakeEncoder()
    return add_documents(
        store,
        documents_in(documents),
        embed=encoder,
        encoder_fingerprint=encoder.fingerprint,
        encoder_name="fake",
        splitter=splitter or WordSplitter(5),
        **options,
    )


def shown(store):
    return [(p.document, p.text) for p in store.passages(store.rows_where({}))]


def test_a_document_is_stored_with_all_it_has(store):
    report = add(store, [Document("one two", id="a", title=" T \n t ", metadata={"year": 1999, "ok": True})])
    assert (report.documents, report.passages, report.added, report.embedded, report.skipped) == (1, 1, 1, 1, ())
    (passage,) = store.passages(store.rows_where({}))
    assert (passage.document, passage.title, passage.text) == ("a", "T t", "one two")
    assert passage.metadata == {"year": 1999, "ok": True}
    assert [(d.path, d.title, d.sources) for d in store.documents()] == [("a", "T t", 1)]
    check_sound(store)


def test_an_id_that_is_there_is_updated(store, encoder):
    add(store, [Document(words("a"), id="a"), Document(words("b"), id="b")], encoder)
    generation = store.generation
    encoder.batches.clear()
    report = add(store, [Document(words("a", 10) + " tail", id="a"), Document(words("b"), id="b")], encoder)
    assert (report.unchanged, report.added, report.removed, report.embedded) == (1, 3, 3, 1)
    assert encoder.texts == ["tail"] and store.generation == generation + 1
    report = add(store, [Document(words("b"), id="b", metadata={"y": 1})], encoder)
    assert (report.added, report.removed, report.embedded) == (3, 3, 0)
    check_sound(store)


def test_nothing_is_done_for_what_has_not_changed(store, encoder):
    documents = [Document(words("a"), id="a"), Document(words("b"))]
    add(store, documents, encoder)
    before, generation = content(store), store.generation
    encoder.batches.clear()
    report = add(store, documents, encoder)
    assert (report.unchanged, report.added, report.removed) == (2, 0, 0) and encoder.batches == []
    assert content(store) == before and store.generation == generation


def test_without_an_id_the_content_is_the_id(store):
    report = add(store, [Document("same"), {"text": "same"}, Document("same", id=""), Document("x")])
    assert report.documents == 2 and store.counts().sources == 2
    assert sorted(d.path for d in store.documents()) == sorted(content_id(Document(t)) for t in ("same", "x"))
    add(store, [Document("same", metadata={"a": 1})])
    assert store.counts().documents == 3


def test_an_id_that_is_only_a_hash_is_no_title(store):
    add(store, [Document("one"), Document("two", id=uuid.uuid4().hex), Document("three", id="fees-7")])
    assert {d.title for d in store.documents()} == {"untitled", "fees-7"}
    assert len(store.rows_where({"title": "untitled"})) == 2


@pytest.mark.parametrize("stored", [False, True])
def test_of_two_documents_with_one_id_the_later_counts(store, stored):
    if stored:
        add(store, [Document("later", id="a")])
    add(store, [Document("earlier", id="a"), Document("later", id="a")])
    assert shown(store) == [("a", "later")]
    add(store, [Document("later", id="a"), Document("third", id="a")])
    assert shown(store) == [("a", "third")]
    check_sound(store)


def test_two_ids_may_have_the_same_content(store, encoder):
    report = add(store, [Document("same", id="b"), Document("same", id="a")], encoder)
    assert (report.documents, report.passages, report.embedded) == (1, 1, 1)
    assert shown(store) == [("a", "same")]
    assert store.delete(["a"]).passages == 0 and shown(store) == [("b", "same")]
    removed = store.delete(["b", "never there"])
    assert (removed.sources, removed.documents, removed.passages) == (1, 1, 1)
    assert store.delete(["b"]).sources == 0
    check_sound(store)


def test_files_and_documents_from_memory_leave_each_other_alone(store, folder):
    (folder / "a.txt").write_text("from a file")
    run(store, folder)
    ids = [str(folder / "b.txt"), "a", "/", "memory:", "x#1", "ünï"]
    add(store, [Document(f"text of {i}", id=i) for i in ids])
    (folder / "c.txt").write_text("another file")
    run(store, folder)
    assert store.remove(Path("/")).sources == 2
    assert sorted(d.path for d in store.documents()) == sorted(ids)
    run(store, folder)
    (folder / "a.txt").unlink()
    (folder / "c.txt").unlink()
    run(store, folder, reembed=True)
    assert sorted(d.path for d in store.documents()) == sorted(ids)
    assert store.delete([str(folder / "a.txt"), *ids]).sources == len(ids)
    assert store.counts().sources == 0
    check_sound(store)


def test_same_content_in_a_file_and_in_memory(store, folder):
    (folder / "a.jsonl").write_text('{"text": "same"}')
    run(store, folder)
    assert add(store, [Document("same", id="m")]).embedded == 0
    assert store.counts().documents == 1 and len(store.rows_where({"document": "m"})) == 1
    store.remove(folder)
    assert shown(store) == [("m", "same")]


def test_filters(store, folder):
    (folder / "a.txt").write_text("file")
    run(store, folder)
    add(store, [Document("seven", id="fees-7"), Document("eight", id="fees-8"), Document("star", id="fees-*")])

    def where(document):
        return sorted(p.text for p in store.passages(store.rows_where({"document": document})))

    assert where("fees-7") == ["seven"] and where("fees-?") == ["eight", "seven", "star"]
    assert where("fees-*") == ["star"]  # an id in full means this document
    assert where("*") == ["eight", "file", "seven", "star"] and where("memory:") == [] and where("fees") == []
    assert where("memory:#fees-7") == []


def test_rows_are_documents(store):
    rows = [
        {"text": "one", "id": 7, "title": "T", "year": np.int64(1999), "share": np.float32(0.5), "none": None},
        {"text": "two", "id": float("nan"), "title": None, "share": float("nan"), "far": float("inf")},
    ]
    add(store, rows)
    first, second = store.passages(store.rows_where({}))
    assert (first.document, first.title) == ("7", "T")
    assert first.metadata == {"year": 1999, "share": 0.5, "none": None}
    assert second.document == content_id(Document("two", metadata={"share": None, "far": "inf"}))
    assert second.metadata == {"share": None, "far": "inf"}


class Frame:
    """What pandas' DataFrame offers of what is used; ``NaT`` and ``NA`` stand for missing values there."""

    def __init__(self, rows):
        self.rows, self.columns = rows, list(rows[0])

    def to_dict(self, orient):
        assert orient == "records"
        return self.rows

    def __iter__(self):
        return iter(self.columns)


class PolarsFrame(Frame):
    def to_dict(self, as_series):
        raise AssertionError

    def to_dicts(self):
        return self.rows


@pytest.mark.parametrize("kind", [Frame, PolarsFrame])
def test_a_data_frame_is_its_rows(store, kind):
    missing = type("NAType", (), {"__bool__": lambda self: 1 / 0, "__eq__": lambda self, other: self})()
    report = add(store, kind([{"text": "one", "id": missing, "y": missing}, {"text": "two", "id": "b", "y": 2.0}]))
    assert report.documents == 2
    assert [p.metadata for p in store.passages(store.rows_where({}))] == [{"y": None}, {"y": 2.0}]


REFUSED = {
    "text of a number": (Document(3), "a string as text of document 2; found int 3"),
    "no text": (Document(None, id="a"), "document 2, id 'a'; found NoneType None"),
    "blank": (Document(" \n", id="a"), "text in document 2, id 'a'; found a blank one"),
    "surrogate": (Document("a\ud800", id="a"), "a lone surrogate in its text"),
    "surrogate in the title": (Document("a", title="\udfff"), "a lone surrogate in its title"),
    "surrogate in the id": (Document("a", id="\udfff"), r"id '\\udfff'; found a lone surrogate in its id"),
    "surrogate in metadata": (Document("a", metadata={"k": "\udfff"}), "a lone surrogate in its metadata"),
    "surrogate in a key": (Document("a", metadata={"\udfff": 1}), "a lone surrogate in its metadata"),
    "NUL": (Document("a\0b"), "text without NUL characters in document 2; found one in its text"),
    "NUL in metadata": (Document("a", metadata={"k": "\0"}), "found one in its metadata"),
    "list in metadata": (Document("a", metadata={"k": [1]}), r"metadata 'k' of document 2; found list \[1\]"),
    "object in metadata": (
        {"text": "a", "when": time},
        "metadata 'when' of document 2; found a value of type module",
    ),
    "long number": (Document("a", metadata={"k": 10**9999}), "one of many digits"),
    "key that is no string": (
        Document("a", metadata={1: 1}),
        "strings as metadata keys of document 2; found int 1",
    ),
    "metadata that are no mapping": (Document("a", metadata=[1]), "a mapping as metadata of document 2"),
    "title that is no string": (Document("a", title=3), "a string as title of document 2"),
    "id that is no string": (Document("a", id=b"x"), "as id of document 2; found bytes"),
    "bool as id": (Document("a", id=True), "as id of document 2; found bool"),
    "row without text": ({"Text": "a"}, "the key 'text' in document 2; found the keys 'Text'"),
    "no document": (7, "documents, or rows with the key 'text'; found int 7 as document 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_document_that_cannot_be_used_is_refused_in_one_line(store, name):
    document, message = REFUSED[name]
    with pytest.raises(SourceError, match=message) as caught:
        add(store, [Document("good", id="g"), document])
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    assert store.counts().documents == 0
    check_sound(store)
    assert add(store, [Document("good", id="g")]).added == 1


def test_a_backslash_is_no_character_that_it_may_escape(store):
    add(store, [Document("a", metadata={"k": "\\u0000 \\ud800"})])
    assert store.counts().documents == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("text", "found str 'text'; for strings, call add_texts"),
        (Document("x"), "put it into a list"),
        ({"text": "x"}, "put it into a list"),
        (3, "found int 3"),
        (None, "found NoneType None"),
    ],
)
def test_what_is_no_list_of_documents_is_refused(store, given, message):
    with pytest.raises(SourceError, match=message):
        add(store, given)


def test_texts_with_what_belongs_to_them():
    texts = documents_of_texts(iter("ab"), ["1", "2"], None, ({"n": n} for n in range(2)))
    assert list(texts) == [Document("a", "1", "", {"n": 0}), Document("b", "2", "", {"n": 1})]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("ab", None, None, None), "a list of texts; found str 'ab'"),
        ((["a", "b"], ["1"], None, None), "fewer ids"),
        ((["a"], ["1", "2"], None, None), "fewer texts"),
        ((["a"], "1", None, None), "a list of ids; found str"),
        ((["a"], None, None, {"y": 1}), "a list of metadata; found dict"),
        ((["a"], None, 3, None), "a list of titles; found int 3"),
    ],
)
def test_texts_that_do_not_fit_together_are_refused(columns, message):
    with pytest.raises(SourceError, match=message):
        list(documents_of_texts(*columns))


def test_a_long_iterable_is_read_piece_by_piece(store):
    """So that memory stays bounded: what was read first is in the store before the end is read."""
    seen = {}

    def documents():
        with Store.open(store.location) as reader:
            for i in range(1200):
                if i in {0, 511, 600, 1199}:  # counting takes long in a bucket
                    seen[i] = reader.counts().documents
                yield Document(f"text {i}", id=str(i))

    add(store, documents())
    assert seen == {0: 0, 511: 0, 600: 512, 1199: 1024} and store.counts().documents == 1200


def test_many_ids_of_one_content_are_written_piece_by_piece(store):
    def documents():
        for i in range(1200):
            yield Document("same", id=str(i))
        assert store.counts().sources >= 1000

    add(store, documents())
    assert store.counts().sources == 1200


def test_an_error_of_the_iterable_leaves_a_sound_store(store, encoder):
    def documents():
        for i in range(600):
            yield Document(f"text {i}", id=str(i))
        raise RuntimeError("the source has failed")

    with pytest.raises(RuntimeError, match="the source has failed"):
        add(store, documents(), encoder)
    assert store.counts().documents == 512
    check_sound(store)
    encoder.batches.clear()
    report = add(store, [Document(f"text {i}", id=str(i)) for i in range(600)], encoder)
    assert (report.unchanged, report.embedded) == (512, 88)


def test_an_interrupted_run_computes_nothing_twice(store):
    class Dying(FakeEncoder):
        def __call__(self, texts):
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().__call__(texts)

    documents = [Document(words("a", 50), id="a")]
    with pytest.raises(KeyboardInterrupt):
        add(store, documents, Dying(), batch=2)
    assert store.counts().passages == 0
    assert add(store, documents, batch=2).embedded == 4
    check_sound(store)


def test_readers_never_see_half_an_update(store):
    add(store, [Document(words("old", 50), id="a")])
    before, seen = content(store), []

    class Watching(FakeEncoder):
        def __call__(self, texts):
            with Store.open(store.location) as reader:
                seen.append(content(reader))
            return super().__call__(texts)

    add(store, [Document(words("new", 50), id="a")], Watching(), batch=2)
    assert len(seen) == 5 and all(state == before for state in seen) and content(store) != before


def test_another_encoder_is_refused_and_reembedding_keeps_the_documents(store):
    add(store, [Document(words("a"), id="a")])
    other = FakeEncoder("fake-2", dimension=4)
    with pytest.raises(EncoderMismatchError):
        add(store, [Document("b", id="b")], other)
    run(store, encoder=other, reembed=True)
    assert add(store, [Document(words("a"), id="a")], other).unchanged == 1
    check_sound(store)


class Slow(FakeEncoder):
    def __call__(self, texts):
        time.sleep(0.01)
        return super().__call__(texts)


def updated_documents():
    for i in range(2000):
        yield Document(f"text {i}", id=str(i % 700))


def add_slowly(messages, location):
    """In the process that is killed."""
    with Store.open(location, create=True) as store:
        messages.send("open")
        add(store, updated_documents(), Slow(), batch=8)


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("seconds", [0, 0.3, 1.0])
def test_kill_9_leaves_a_store_that_opens_and_resumes(backend, tmp_path, seconds):
    kill_after(seconds, ["open"], add_slowly, backend.location)
    # What a fresh store of this backend holds is what one of files holds, which is sooner made.
    with backend.reopen() as store, SqliteBackend(tmp_path, "fresh").open() as fresh:
        add(store, updated_documents())
        add(fresh, updated_documents())
        assert content(store) == content(fresh) and store.counts().documents == 700
        check_sound(store)


def test_json_of_metadata_reads_back(store):
    metadata = {"quote": 'a"b', "line": "a\nb", "big": 2**63, "small": -0.5}
    add(store, [Document("x", metadata=metadata)])
    (passage,) = store.passages(store.rows_where({"big": str(2**63)}))
    assert passage.metadata == metadata and json.dumps(metadata)
