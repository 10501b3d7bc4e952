"""Documents by the name that the list gives them: their passages at an offset or page, and their removal."""

import json

import pytest

from mixrag.corpus import Document, WordSplitter, add_documents, ingest
from words_encoder import WordsEncoder

TEXT = "\n".join(f"Line {n} of many." for n in range(40))

COPIES = ("copy.txt", "other/copy.txt")


@pytest.fixture
def filled(store, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    for name in COPIES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("Of two files.")
    records = [{"id": "one", "text": "First record."}, {"id": "two#b", "text": "Second record."}]
    (folder / "r.jsonl").write_text("\n".join(map(json.dumps, records)))
    run(ingest, store, [folder])
    run(add_documents, store, [Document("From memory.", id="notes#1")])
    return folder


def run(function, store, given):
    encoder = WordsEncoder()
    return function(
        store,
        given,
        embed=encoder.encode_passages,
        encoder_fingerprint=encoder.fingerprint,
        encoder_name=encoder.name,
        splitter=WordSplitter(12),
    )


def test_every_document_of_the_list_is_found_by_its_name(store, filled):
    listed = store.documents()
    rows = [store.document_row(each.path) for each in listed]
    assert len(listed) == len({*rows} - {None}) == 5
    for each, row in zip(listed, rows, strict=True):
        assert store.extent(row).passages == each.passages
        assert store.passages_of(row)[0].document == each.path


@pytest.mark.parametrize("name", ["a.txt", "*", "", "memory:", "notes#2", "#", "/etc/passwd", "memory:#notes#1"])
def test_parts_of_paths_and_patterns_are_no_names(store, filled, name):
    assert store.document_row(name) is None


def test_another_source_names_the_same_document(store, filled):
    rows = {store.document_row(str(filled / name)) for name in COPIES}
    assert len(rows) == 1


def test_passages_from_an_offset_on(store, filled):
    row = store.document_row(str(filled / "a.txt"))
    whole = store.passages_of(row, limit=1000)
    assert [each.start for each in whole] == sorted(each.start for each in whole)
    assert len(whole) == store.extent(row).passages > 3
    at = whole[2].start + 1
    assert store.passages_of(row, offset=at, limit=2) == whole[2:4]
    assert store.passages_of(row, offset=whole[-1].end) == []
    assert store.extent(row).characters == whole[-1].end
    assert store.extent(row).pages is None and store.passages_of(row, page=1) == []


def test_removal_names_the_files_of_which_nothing_is_left(store, filled):
    before, generation = store.counts(), store.generation
    removed, gone = store.remove_document(f"{filled / 'r.jsonl'}#one")
    assert (removed.documents, gone) == (1, [])
    assert store.remove_document(f"{filled / 'r.jsonl'}#two#b")[1] == [str(filled / "r.jsonl")]
    both = [str(filled / name) for name in COPIES]
    assert store.remove_document(both[1])[1] == both
    assert store.remove_document("notes#1")[1] == []
    assert store.counts().documents == before.documents - 4 == 1
    assert store.generation > generation
    assert len(list(filled.iterdir())) == 4


def test_a_document_that_is_gone_already(store, filled):
    name = str(filled / "a.txt")
    row = store.document_row(name)
    assert store.remove_document(name) is not None
    assert store.remove_document(name) is None
    assert store.passages_of(row) == []
