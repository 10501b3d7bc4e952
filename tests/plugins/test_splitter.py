"""Splitter as a plug-in: passages of one's own, whose spans are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixrag import RAG, Document
from mixrag.corpus import SentenceSplitter, Store, WordSplitter
from mixrag.errors import PluginError
from plugins.how_to import run_page
from words_encoder import WordsEncoder

TEXT = "one two three"


class Giving:
    """Returns what it was made with."""

    name = "giving"

    def __init__(self, spans: Any) -> None:
        self.spans = spans

    def split(self, text: str) -> Any:
        return self.spans(text) if callable(self.spans) else self.spans


def opened(tmp_path: Path, splitter: Any = None) -> RAG:
    store = Store.open(tmp_path / "store", create=True)
    return RAG(store, encoder=WordsEncoder(), splitter=splitter)


def texts(rag: RAG) -> list[str]:
    return [passage.text for passage in rag.store.passages(rag.store.rows_where({}))]


def test_the_how_to_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    # The packaged encoder takes seconds to load, and this page is about something else.
    monkeypatch.setattr("mixrag.answers.store_models.configured_encoder", lambda *given, **options: WordsEncoder())
    run_page("own-splitter.md")
    assert capsys.readouterr().out.splitlines() == [
        "78 112 Hens lay fewer eggs during winter.",
        "0 76 A licence to fish cod costs nine crowns a year.",
    ]


def test_the_splitter_of_the_pipeline_and_that_of_a_call(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one two three four")
    with opened(tmp_path, WordSplitter(1)) as rag:
        rag.add([Document(TEXT, id="a")])
        rag.index(file)
        assert texts(rag) == ["one", "two", "three", "one", "two", "three", "four"]
        assert rag.info().splitter == "words:1"
        report = rag.add([Document(TEXT, id="a")], splitter=SentenceSplitter(9))
        assert report.unchanged == 0 and report.embedded == 1  # split anew; the others' vectors are there
        rag.index(file, splitter=WordSplitter(2))
        assert sorted(texts(rag)) == ["one two", TEXT, "three four"]
        assert rag.add([Document(TEXT, id="a")]).embedded == 3


def test_spans_may_overlap_and_leave_text_out(tmp_path: Path) -> None:
    with opened(tmp_path, Giving([(0, 7), (4, 7), [np.int64(0), np.int64(3)]])) as rag:
        rag.add([Document(TEXT, id="a")])
        assert texts(rag) == ["one two", "two", "one"]
        found = rag.store.passages(rag.store.rows_where({}))
        assert all(TEXT[passage.start : passage.end] == passage.text for passage in found)


WRONG = {
    "negative": [(-1, 3)],
    "empty": [(0, 3), (3, 3)],
    "reversed": [(3, 0)],
    "behind the end": [(0, len(TEXT) + 1)],
    "blank": [(3, 4)],
    "three numbers": [(0, 1, 2)],
    "no pair": [3],
    "no whole numbers": [(0.0, 3.0)],
    "text": ["one"],
    "nothing": None,
    "a failure": lambda text: text[99],
}


@pytest.mark.parametrize("name", WRONG)
def test_spans_that_are_none_of_the_text_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    message = (
        r"0 <= start < end <= 13, not blank, from splitter 'giving'; found .* at document a; correct its method"
    )
    with opened(tmp_path, Giving(WRONG[name])) as rag:
        with pytest.raises(PluginError, match=message) as caught:
            rag.add([Document(TEXT, id="a")])
        assert "\n" not in str(caught.value) and rag.store.counts().documents == 0
        (tmp_path / "b.txt").write_text(TEXT)
        with pytest.raises(PluginError, match=r"at document /.*/b\.txt"):
            rag.index(tmp_path / "b.txt")
        assert rag.add([Document(TEXT, id="a")], splitter=WordSplitter(9)).added == 1


@pytest.mark.parametrize("missing", ["name", "split"])
def test_an_object_that_lacks_a_member_is_refused_in_one_line(tmp_path: Path, missing: str) -> None:
    members = {"name": "x", "split": lambda self, text: []}
    members.pop(missing)
    lacking = type("Lacking", (), members)()
    message = f"as splitter, with name, split; found Lacking without {missing}; see the how-to"
    with pytest.raises(PluginError, match=message):
        RAG.open(tmp_path / "store", create=True, splitter=lacking)
    with opened(tmp_path) as rag:
        for call in (lambda: rag.add([], splitter=lacking), lambda: rag.index(tmp_path, splitter=lacking)):
            with pytest.raises(PluginError, match=message):
                call()
        with pytest.raises(PluginError, match="found the class WordSplitter; create an instance"):
            rag.add([], splitter=WordSplitter)  # type: ignore[arg-type]
