import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_corpus import FakeEncoder, check_sound, content, run
from mixrag.corpus import ParserRegistry, SentenceSplitter, Store, WordSplitter, ingest
from mixrag.corpus.parsers.isolation import Worker
from mixrag.errors import EncoderMismatchError, ModelError, SourceError
from store_backends import SqliteBackend
from warm_process import kill_after


def words(tag, count=12):
    return " ".join(f"{tag}{i}" for i in range(count))


def test_first_and_second_run(store, folder, encoder):
    (folder / "a.txt").write_text(words("a"))
    (folder / "b.md").write_text("# B\n" + words("b"))
    first = run(store, folder, encoder=encoder)
    assert (first.documents, first.passages, first.added, first.removed) == (2, 6, 6, 0)
    assert (first.embedded, first.unchanged, first.skipped) == (6, 0, ())
    generation, before = store.generation, content(store)
    encoder.batches.clear()
    second = run(store, folder, encoder=encoder)
    assert (second.embedded, second.added, second.removed, second.unchanged) == (0, 0, 0, 2)
    assert encoder.batches == [] and store.generation == generation and content(store) == before
    check_sound(store)


def test_unchanged_file_is_not_parsed(store, folder, monkeypatch):
    (folder / "a.txt").write_text("text")
    run(store, folder)
    monkeypatch.setattr(Worker, "submit", None)
    os.utime(folder / "a.txt", (0, 0))
    assert run(store, folder).unchanged == 1


def test_changed_file_embeds_only_what_is_new(store, folder, encoder):
    path = folder / "a.txt"
    path.write_text(words("a", 10))
    run(store, folder, encoder=encoder)
    path.write_text(words("a", 10) + " tail")
    report = run(store, folder, encoder=encoder)
    assert (report.embedded, report.passages, report.added, report.removed) == (1, 3, 3, 2)
    assert encoder.texts[2:] == ["a\ntail"]
    check_sound(store)


def test_readers_never_see_half_a_file(store, folder, encoder):
    path = folder / "a.txt"
    path.write_text(words("old", 50))
    run(store, folder)
    path.write_text(words("new", 50))
    before, seen = content(store), []

    class Watching(FakeEncoder):
        def __call__(self, texts):
            with Store.open(store.location) as reader:
                seen.append(content(reader))
            return super().__call__(texts)

    run(store, folder, encoder=Watching(), batch=2)
    assert len(seen) == 5 and all(state == before for state in seen)
    assert content(store) != before


def test_gone_file_disappears_from_its_folder_only(store, folder, tmp_path):
    (tmp_path / "files2").mkdir()
    (tmp_path / "files2" / "x.txt").write_text("elsewhere")
    for name in "ab":
        (folder / f"{name}.txt").write_text(words(name))
    run(store, folder, tmp_path / "files2")
    (folder / "a.txt").unlink()
    (tmp_path / "files2" / "x.txt").unlink()
    report = run(store, folder)
    assert (report.removed, report.passages) == (3, 4)
    check_sound(store)


def test_folder_emptied_is_no_error(store, folder):
    (folder / "a.txt").write_text("text")
    run(store, folder)
    (folder / "a.txt").unlink()
    assert run(store, folder).passages == 0
    with pytest.raises(SourceError):
        run(store, folder)


def test_files_in_an_unreadable_folder_stay(store, folder, monkeypatch):
    (folder / "shut").mkdir()
    (folder / "shut" / "a.txt").write_text("kept")
    (folder / "b.txt").write_text("other")
    run(store, folder)
    before, scandir = content(store), os.scandir

    def refuse(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [s.path for s in run(store, folder).skipped] == [str(folder / "shut")]
    assert content(store) == before


def test_identical_files_are_stored_once(store, folder, encoder):
    for name in "ab":
        (folder / name).mkdir()
        (folder / name / "notes.txt").write_text(words("same"))
    report = run(store, folder, encoder=encoder)
    assert (report.documents, report.passages, report.embedded) == (1, 3, 3)
    assert store.counts().sources == 2
    shown = store.passages(store.rows_where({}))[0]
    assert (shown.document, shown.title) == (str(folder / "a" / "notes.txt"), "notes")  # the first in sorted order
    (folder / "a" / "notes.txt").unlink()
    assert run(store, folder).passages == 3
    (folder / "b" / "notes.txt").unlink()
    (folder / "c.txt").write_text("c")
    assert run(store, folder).passages == 1
    check_sound(store)


def test_same_text_with_other_metadata_is_another_document(store, folder):
    (folder / "a.jsonl").write_text(
        '{"text": "same", "y": 1}\n{"text": "same", "y": 2}\n{"text": "same", "y": 2}\n'
    )
    report = run(store, folder)
    assert (report.documents, report.embedded) == (2, 1)
    second = store.passages(store.rows_where({"y": "2"}))
    assert [p.document for p in second] == [f"{folder}/a.jsonl#2"]  # the first record in sorted order


def test_files_of_one_text_and_different_names_are_two_documents(store, folder):
    """Without a title the name is read before the passages, so that their vectors differ."""
    for name in "ab":
        (folder / f"{name}.txt").write_text(words("same"))
        (folder / f"{name}.md").write_text("# Fees\n\nNine crowns.")
    report = run(store, folder)
    assert (report.documents, report.passages, report.embedded) == (3, 7, 7)
    assert {p.front_title for p in store.passages(store.rows_where({}))} == {"a", "b", "Fees"}


def test_renamed_file_embeds_nothing_where_it_has_a_title(store, folder, encoder):
    (folder / "b.md").write_text("# Fees\n\nNine crowns.")
    (folder / "b.txt").write_text("one")
    run(store, folder)
    (folder / "b.md").rename(folder / "a.md")
    assert run(store, folder, encoder=encoder).embedded == 0 and encoder.batches == []
    (folder / "b.txt").rename(folder / "a.txt")
    assert run(store, folder, encoder=encoder).embedded == 1
    assert encoder.batches == [["a\none"]]


def test_unreadable_now_keeps_what_was_stored(store, folder):
    for name in "ab":
        (folder / f"{name}.txt").write_text(words(name))
    run(store, folder)
    before = content(store)
    (folder / "a.txt").write_bytes(b"\0\xff\0\1\0")
    report = run(store, folder)
    assert content(store) == before
    assert [s.path for s in report.skipped] == [str(folder / "a.txt")] and "binary" in report.skipped[0].reason
    (folder / "b.txt").write_bytes(b"")
    assert len(run(store, folder).skipped) == 2 and content(store) == before


def test_record_skips_are_reported(store, folder):
    (folder / "a.jsonl").write_text('{"text": "one"}\n{"text": ""}\n')
    report = run(store, folder)
    assert report.passages == 1 and report.skipped[0].path == f"{folder}/a.jsonl:2"


def test_file_too_large_is_not_hashed(store, folder, monkeypatch):
    (folder / "a.txt").write_text("x" * 100)
    (folder / "b.txt").write_text("small")
    monkeypatch.setattr(
        ParserRegistry, "fingerprint", lambda self, path, data: data.hex() if path.name == "b.txt" else 1 / 0
    )
    report = run(store, folder, max_bytes=50)
    assert report.passages == 1 and "expected a file of at most" in report.skipped[0].reason


# paths


def test_missing_path(store, folder):
    (folder / "a.txt").write_text("text")
    report = run(store, folder, folder / "none")
    assert report.passages == 1 and report.skipped[0].path == str(folder / "none")
    with pytest.raises(SourceError, match="check the spelling"):
        run(store, folder / "none.txt")
    (folder / "a.txt").unlink()
    with pytest.raises(SourceError, match="mixrag remove"):
        run(store, folder / "a.txt")
    assert store.counts().passages == 1


@pytest.mark.parametrize("name", ["x" * 300 + ".txt", "a\0b.txt"])
def test_path_that_cannot_exist(store, folder, name):
    with pytest.raises(SourceError):
        run(store, folder / name)


def test_nothing_to_index(store, folder):
    with pytest.raises(SourceError, match=r"\.pdf .*\.jsonl"):
        run(store, folder)
    (folder / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(SourceError):
        run(store, folder)
    with pytest.raises(SourceError, match=r"suffix '\.png'"):
        run(store, folder / "picture.png")
    with pytest.raises(SourceError):
        run(store)


def test_explicit_file_relative_path_and_overlap(store, folder, monkeypatch):
    (folder / "a.txt").write_text("text")
    monkeypatch.chdir(folder)
    seen = []

    def watch(event):
        if event.stage == "reading files" and event.detail:
            seen.append(event.detail)

    report = run(store, Path("a.txt"), folder, Path("../files/a.txt"), progress=watch)
    assert seen == [str(folder / "a.txt")]
    assert report.documents == 1 and store.counts().sources == 1
    assert [d.path for d in store.documents()] == [str(folder / "a.txt")]


def test_other_splitter_replaces_passages(store, folder):
    (folder / "a.txt").write_text(words("a"))
    run(store, folder)
    report = run(store, folder, splitter=WordSplitter(4))
    assert (report.passages, report.unchanged, store.splitter) == (3, 0, "words:4")
    assert run(store, folder, splitter=SentenceSplitter(12)).passages == 1
    check_sound(store)


# vectors


def test_batches(store, folder, encoder):
    for i in range(10):
        (folder / f"{i}.txt").write_text(words(f"w{i}x", 15))
    seen = []

    run(store, folder, encoder=encoder, batch=8, progress=seen.append)
    assert [len(batch) for batch in encoder.batches] == [8, 8, 8, 6]  # across files
    files = [event for event in seen if event.stage == "reading files"]
    assert [(event.done, event.total) for event in files] == [(i, 10) for i in range(11)]
    assert [event.detail for event in files] == [*(str(folder / f"{i}.txt") for i in range(10)), ""]
    embedded = [(event.done, event.total) for event in seen if event.stage == "embedding"]
    assert embedded == [(8, 30), (16, 30), (24, 30), (30, 30)]


@pytest.mark.parametrize(
    "vectors", [np.zeros((1, 4)), np.zeros(4), np.full((3, 4), np.nan), np.full((3, 4), np.inf)], ids=str
)
def test_encoder_that_returns_nonsense(store, folder, vectors):
    (folder / "a.txt").write_text(words("a"))
    with pytest.raises(ModelError):
        ingest(
            store,
            [folder],
            embed=lambda texts: vectors,
            encoder_fingerprint="f",
            encoder_name="n",
            splitter=WordSplitter(5),
        )
    assert store.counts().passages == 0


def test_changed_dimension_needs_a_new_fingerprint(store, folder):
    (folder / "a.txt").write_text("a")
    run(store, folder)
    (folder / "b.txt").write_text("b")
    with pytest.raises(EncoderMismatchError):
        run(store, folder, encoder=FakeEncoder(dimension=4))


def test_other_encoder_is_refused(store, folder):
    (folder / "a.txt").write_text(words("a"))
    run(store, folder)
    before = content(store)
    with pytest.raises(EncoderMismatchError) as caught:
        run(store, folder, encoder=FakeEncoder("fake-2"))
    for part in ("name of fake-1", "name of fake-2", f"mixrag index --re-embed --store {store.name}"):
        assert part in str(caught.value)
    assert content(store) == before
    store.remove(folder)
    assert run(store, folder, encoder=FakeEncoder("fake-2")).embedded == 3  # an emptied store is free
    check_sound(store)


def test_reembed_equals_a_fresh_index(store, folder, backend):
    (folder / "a.md").write_text("# A\n" + words("a", 30))
    run(store, folder)
    generation, other = store.generation, FakeEncoder("fake-2", dimension=4)
    report = run(store, encoder=other, reembed=True)
    assert report.embedded == 7 and store.generation == generation + 1 and store.encoder.dimension == 4
    with backend.another().open() as fresh:
        run(fresh, folder, encoder=other)
        assert content(store) == content(fresh)
    assert run(store, folder, encoder=other, reembed=True).embedded == 0
    assert run(store, encoder=other, reembed=True, embedding_text=lambda title, text: text).embedded == 7
    assert store.generation == generation + 2
    check_sound(store)


class Dying(FakeEncoder):
    def __init__(self, *args, after, **kwargs):
        super().__init__(*args, **kwargs)
        self.after = after

    def __call__(self, texts):
        if len(self.batches) == self.after:
            raise KeyboardInterrupt
        return super().__call__(texts)


def test_interrupted_reembedding_leaves_the_old_store_working_and_resumes(store, folder):
    (folder / "a.txt").write_text(words("a", 50))
    run(store, folder)
    before = content(store)
    with pytest.raises(KeyboardInterrupt):
        run(store, encoder=Dying("fake-2", after=3), reembed=True, batch=2)
    assert content(store) == before and store.encoder.fingerprint == "fake-1"
    assert run(store, folder).embedded == 0  # the old encoder still indexes
    assert run(store, encoder=FakeEncoder("fake-2"), reembed=True, batch=2).embedded == 4
    check_sound(store)


def test_interrupted_run_resumes_without_recomputing(store, folder):
    (folder / "a.txt").write_text(words("a", 50))
    with pytest.raises(KeyboardInterrupt):
        run(store, folder, encoder=Dying(after=3), batch=2)
    assert store.counts().passages == 0
    assert run(store, folder, batch=2).embedded == 4
    check_sound(store)


class Slow(FakeEncoder):
    def __init__(self, messages):
        super().__init__()
        self.messages = messages

    def __call__(self, texts):
        self.messages.send("batch")
        time.sleep(0.01)
        return super().__call__(texts)


def index_slowly(messages, location, folder):
    """In the process that is killed."""
    with Store.open(location, create=True) as store:
        messages.send("open")
        run(store, folder, encoder=Slow(messages), batch=2)


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("seconds", [0, 0.02, 0.1, 0.2, 0.4, 0.6])
def test_kill_9_leaves_a_store_that_opens_and_resumes(backend, folder, tmp_path, seconds):
    for i in range(40):
        (folder / f"{i}.md").write_text(f"# Title {i}\n" + words(f"w{i}x", 20))
    written = seconds >= 0.2
    # When the second batch is embedded, the first is in the store.
    kill_after(seconds, ["open", *["batch"] * (2 * written)], index_slowly, backend.location, folder)
    # What a fresh store of this backend holds is what one of files holds, which is sooner made.
    with backend.reopen() as store, SqliteBackend(tmp_path, "fresh").open() as fresh:
        total = run(fresh, folder).embedded
        hashes = set(fresh.text_hashes(fresh.rows_where({})))
        missing = len(store.missing_vectors("fake-1", hashes))
        assert run(store, folder).embedded == missing
        assert missing < total or not written
        assert content(store) == content(fresh)
        check_sound(store)


# any history gives the store of a fresh index

names = st.sampled_from(["a.txt", "b.md", "sub/c.txt", "sub/d.jsonl"])
texts = st.sampled_from(["one two three four five six", "# T\nsame", "same", "x y z"])
steps = st.lists(
    st.tuples(st.just("write"), names, texts)
    | st.tuples(st.just("delete"), names, st.none())
    | st.tuples(st.just("copy"), names, names)
    | st.tuples(st.just("remove"), names, st.none())
    | st.tuples(st.just("index"), st.none(), st.none()),
    min_size=1,
    max_size=12,
)


def apply(step, folder, store):
    kind, name, value = step
    path = folder / (name or "")
    if kind == "write":
        path.write_text(f'{{"id": "r", "text": "{value[:8]!r}"}}' if name.endswith("jsonl") else value)
    elif kind == "delete":
        path.unlink(missing_ok=True)
    elif kind == "copy" and path.exists() and path.suffix == Path(value).suffix:
        (folder / value).write_bytes(path.read_bytes())
    elif kind == "remove":
        store.remove(path)
    elif kind == "index":
        run(store, folder)


def test_any_history_equals_a_fresh_index(backend, tmp_path_factory):
    check = given(steps)(lambda history: check_history(backend, tmp_path_factory.mktemp("history"), history))
    settings(max_examples=max(round(40 * backend.trials), 4), deadline=None, database=None)(check)()


def check_history(backend, folder, history):
    (folder / "sub").mkdir()
    (folder / "keep.txt").write_text("keep this file")
    first, second = backend.another(), SqliteBackend(folder.parent, f"{folder.name}-fresh")
    try:
        with first.open() as store, second.open() as fresh:
            for step in history:
                apply(step, folder, store)
            run(store, folder)
            run(fresh, folder)
            assert content(store) == content(fresh)
            assert store.counts() == fresh.counts()
            assert store.documents() == fresh.documents()
            check_sound(store)
    finally:
        first.destroy()
        second.destroy()


# files that were moved


def cited(store):
    return sorted(p.document for p in store.passages(store.rows_where({})))


def test_a_moved_folder_is_cited_where_it_is(store, folder, encoder):
    (folder / "old").mkdir()
    (folder / "old" / "a.txt").write_text("one two three four five six seven")
    (folder / "old" / "r.jsonl").write_text('{"id": "1", "text": "x"}\n{"id": "2", "text": "y"}')
    run(store, folder / "old", encoder=encoder)
    before, asked = sorted(store.rows_where({})), len(encoder.batches)
    (folder / "old").rename(folder / "new")
    report = run(store, folder / "new", encoder=encoder)
    assert cited(store) == [f"{folder}/new/a.txt"] * 2 + [f"{folder}/new/r.jsonl#1", f"{folder}/new/r.jsonl#2"]
    assert sorted(store.rows_where({})) == before and len(encoder.batches) == asked
    assert (report.added, report.removed, report.embedded) == (0, 0, 0)
    assert store.files_below(str(folder / "old")) == [] and store.counts().sources == 3


def test_a_renamed_file_is_cited_by_its_new_name_alone(store, folder):
    (folder / "old.txt").write_text("one two three")
    run(store, folder / "old.txt")
    (folder / "old.txt").rename(folder / "new.txt")
    report = run(store, folder / "new.txt")
    assert cited(store) == [f"{folder}/new.txt"] and report.passages == 1
    check_sound(store)


def test_what_was_only_in_the_moved_file_stays(store, folder):
    (folder / "old.jsonl").write_text('{"id": "1", "text": "x"}\n{"id": "2", "text": "y"}')
    run(store, folder / "old.jsonl")
    (folder / "old.jsonl").unlink()
    (folder / "new.jsonl").write_text('{"id": "3", "text": "x"}')
    run(store, folder / "new.jsonl")
    assert cited(store) == [f"{folder}/new.jsonl#3", f"{folder}/old.jsonl#2"]


def test_a_copy_and_a_document_from_memory_stay_sources(store, folder):
    for name in ("a.md", "b.md"):
        (folder / name).write_text("# same")
    run(store, folder / "a.md")
    run(store, folder / "b.md")
    assert store.counts().sources == 2 and cited(store) == [f"{folder}/a.md"]


def test_a_store_that_knows_an_old_path_forgets_it_in_a_run_without_changes(store, folder):
    (folder / "a.md").write_text("# same")
    run(store, folder / "a.md")
    (folder / "z.md").write_text("# same")
    run(store, folder / "z.md")
    (folder / "a.md").unlink()
    assert cited(store) == [f"{folder}/z.md"]  # of two sources, the one that is there
    assert [record.path for record in store.documents()] == [f"{folder}/z.md"]
    assert store.counts().sources == 2
    assert run(store, folder / "z.md").unchanged == 1
    assert store.counts().sources == 1
