"""RAG.add, add_texts and delete: documents from memory, asked like files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, Document
from mixrag.corpus import Store, content_id
from mixrag.errors import SourceError
from words_encoder import WordsEncoder


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    with RAG(Store.open(tmp_path / "store", create=True), encoder=WordsEncoder()) as rag:
        yield rag


def test_added_asked_updated_deleted(rag: RAG) -> None:
    rag.add([Document("cod costs nine crowns", id="cod"), {"text": "eel costs four", "id": "eel", "season": True}])
    assert [p.document for p in rag.passages("cod crowns", k=2).passages] == ["cod", "eel"]
    assert [p.document for p in rag.passages("crowns", where={"document": "eel"}).passages] == ["eel"]
    assert [p.document for p in rag.passages("crowns", where={"season": "true"}).passages] == ["eel"]
    rag.add([Document("cod costs ten crowns", id="cod")])
    assert rag.passages("cod crowns", k=1).passages[0].text == "cod costs ten crowns"
    assert rag.delete(["cod"]).passages == 1
    assert [document.path for document in rag.info().documents] == ["eel"]
    assert rag.delete("eel").documents == 1  # one id, not its letters
    assert rag.info().counts.sources == 0


def test_texts(rag: RAG) -> None:
    report = rag.add_texts(text for text in ["one", "two", "one"])
    assert (report.documents, report.added) == (2, 2)
    assert rag.add_texts(["one"]).unchanged == 1
    rag.add_texts(["three"], ids=["3"], titles=["Third"], metadata=[{"n": 3}])
    (found,) = rag.passages("three", where={"n": "3"}).passages
    assert (found.document, found.title) == ("3", "Third")
    assert rag.delete([content_id(Document("one"))]).documents == 1


def test_nothing_to_add_is_no_error(rag: RAG) -> None:
    assert rag.add([]).added == 0 and rag.add_texts([]).documents == 0 and rag.delete([]).sources == 0


def test_one_path_may_be_given_by_itself(rag: RAG, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("text")
    rag.add_texts(["text from memory"])
    assert rag.index(str(tmp_path / "files")).documents == 2
    assert rag.remove(str(tmp_path / "files")).documents == 1 and rag.info().counts.documents == 1


@pytest.mark.parametrize("ids", [[1], [None], ["\ud800"], [b"x"]])
def test_an_id_that_is_no_text_is_refused(rag: RAG, ids: list[Any]) -> None:
    with pytest.raises(SourceError, match="expected ids of documents as strings"):
        rag.delete(ids)
