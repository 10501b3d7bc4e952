"""Page, place and context on their way: document, store, vector, and back."""

from __future__ import annotations

import re

import pytest

from fake_corpus import FakeEncoder, run
from mixrag.corpus import Document, Store, StructureSplitter, WordSplitter, add_documents
from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.splitters.tokens import PatternTokens
from mixrag.errors import PluginError


class Limited(PatternTokens):
    limit = 12
    name = "limited"


def fees() -> Document:
    builder = DocumentBuilder()
    builder.at("page 3", 3)
    builder.heading("Harbour", 1)
    builder.paragraph("All fees are in crowns.")
    builder.at("page 4", 4)
    builder.paragraph("A ferry pays nine.")
    return builder.document("Rules", id="fees")


def add(store: Store, *documents: Document, splitter=None, encoder=None, **options):
    encoder = encoder or FakeEncoder()
    return add_documents(
        store,
        documents,
        embed=encoder,
        encoder_fingerprint=encoder.fingerprint,
        encoder_name="fake",
        splitter=splitter or StructureSplitter(50),
        **options,
    )


def stored(store: Store):
    return store.passages(store.rows_where({}))


def test_they_are_stored_and_read_back(store):
    add(store, fees())
    first, second = stored(store)
    assert (first.page, first.place, first.context, first.front_title) == (3, "page 3", "", "Rules")
    assert (second.page, second.place, second.context) == (4, "page 4", "Harbour")
    assert second.text == "A ferry pays nine." and second.body == "Harbour\nA ferry pays nine."
    assert store.query("SELECT page, place, context FROM passages ORDER BY id") == [
        (3, "page 3", ""),
        (4, "page 4", "Harbour"),
    ]


@pytest.mark.parametrize(
    ("context", "embedded"),
    [
        ("full", "Rules\nHarbour\nA ferry pays nine."),
        ("title", "Rules\nA ferry pays nine."),
        ("none", "A ferry pays nine."),
    ],
)
def test_what_is_embedded_follows_the_context_and_so_does_another_run(store, context, embedded):
    encoder = FakeEncoder()
    add(store, fees(), splitter=StructureSplitter(50, context=context), encoder=encoder)
    assert encoder.texts[-1] == embedded or encoder.texts[0] == embedded
    assert add(store, fees(), splitter=StructureSplitter(50, context=context), encoder=encoder).unchanged == 1
    other = FakeEncoder("fake-2")
    run(store, encoder=other, reembed=True)
    assert embedded in other.texts and len(other.texts) == 2


def test_another_context_splits_again_and_is_in_the_name(store):
    add(store, fees(), splitter=WordSplitter(50))
    assert store.splitter == "words:50"
    report = add(store, fees(), splitter=WordSplitter(50, context="title"))
    assert report.unchanged == 0 and store.splitter == "words:50, context title"


def test_blocks_make_another_document(store):
    plain = Document(fees().text, id="fees", title="Rules")
    add(store, plain)
    assert add(store, fees()).unchanged == 0 and stored(store)[0].page == 3


def test_a_file_without_title_is_embedded_with_its_name_and_a_record_without_id(store, folder):
    (folder / "ferry-fees.txt").write_text("nine crowns")
    (folder / "r.jsonl").write_text('{"id": "77", "text": "one"}')
    encoder = FakeEncoder()
    run(store, folder, encoder=encoder)
    assert sorted(encoder.texts) == ["ferry fees\nnine crowns", "one"]
    assert {(p.title, p.front_title) for p in stored(store)} == {("ferry fees", "ferry fees"), ("77", "")}


def test_the_name_of_a_file_without_title_is_read_before_its_passages(store, folder):
    (folder / "b.txt").write_text("nine crowns")
    encoder = FakeEncoder()
    run(store, folder, encoder=encoder)
    (folder / "b.txt").rename(folder / "c.txt")
    report = run(store, folder, encoder=encoder)
    assert encoder.texts == ["b\nnine crowns", "c\nnine crowns"] and (report.documents, report.embedded) == (1, 1)
    assert len(store.vectors()[0]) == 1


def test_passages_that_are_longer_than_the_encoder_reads_are_counted(store):
    text = " ".join(f"w{i}" for i in range(40))
    limited = Limited(re.compile(r"\S+"))
    report = add(store, Document(text, id="a", title="T"), splitter=WordSplitter(12), tokens=limited)
    assert (report.too_long, report.token_limit) == (3, 12)  # the title is read too; the last has 4 words
    assert add(store, Document(text, id="a", title="T"), splitter=WordSplitter(12), tokens=limited).too_long == 0
    report = add(
        store, Document(text, id="b", title="T"), splitter=StructureSplitter(200, limited), tokens=limited
    )
    assert report.too_long == 0
    assert add(store, Document(text, id="c")).token_limit is None


class Own:
    name = "own"

    def split(self, text):
        raise AssertionError("split_document comes first")

    def split_document(self, document):
        return [(block.start, block.end) for block in document.blocks if block.kind == "text"]


def test_a_splitter_of_ones_own_sees_the_blocks(store):
    add(store, fees(), splitter=Own())
    assert [(p.text, p.page, p.context) for p in stored(store)] == [
        ("All fees are in crowns.", 3, "Harbour"),
        ("A ferry pays nine.", 4, "Harbour"),
    ]


def test_errors_name_the_method_that_was_called(store):
    splitter = Own()
    splitter.split_document = lambda document: [(0, 99999)]
    with pytest.raises(PluginError, match="correct its method split_document"):
        add(store, fees(), splitter=splitter)
    splitter.context = "all"
    with pytest.raises(PluginError, match="one of full, title, none as context of the splitter 'own'"):
        add(store, fees(), splitter=splitter)
