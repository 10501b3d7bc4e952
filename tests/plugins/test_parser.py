"""Parser as a plug-in: formats of one's own, and what a parser may do wrong costs one file and one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, Document
from mixrag.corpus import ParseResult, ParserRegistry, Skipped, Store
from mixrag.corpus.parsers.registry import BUILTIN_PARSERS
from mixrag.corpus.parsers.result import Notice
from mixrag.errors import PluginError, SourceError
from plugins.how_to import run_page
from words_encoder import WordsEncoder


class Lines:
    """One document a line, with an id where the line has one before a colon."""

    name = "lines:1"
    suffixes = (".lines", ".TXT")

    def parse(self, data: bytes, name: str) -> Any:
        if b"raise" in data:
            raise KeyError("what\nis missing")
        lines = [line.partition(":") for line in data.decode().splitlines()]
        return [Document(text, id=id_ or None, title=Path(name).stem) for id_, _, text in lines]


class Giving:
    """Returns what it was made with."""

    name, suffixes = "giving", (".x",)

    def __init__(self, result: Any) -> None:
        self.result = result

    def parse(self, data: bytes, name: str) -> Any:
        return self.result


def opened(tmp_path: Path, *parsers: Any) -> RAG:
    store = Store.open(tmp_path / "store", create=True)
    return RAG(store, encoder=WordsEncoder(), parsers=parsers)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def documents(rag: RAG) -> list[str]:
    return [Path(document.path).name for document in rag.info().documents]


def test_the_how_to_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    # The packaged encoder takes seconds to load, and this page is about something else.
    monkeypatch.setattr("mixrag.answers.store_models.configured_encoder", lambda *given, **options: WordsEncoder())
    run_page("own-parser.md")
    skipped, title = capsys.readouterr().out.splitlines()
    assert "broken.eml expected a file that parser 'email:1' can read; found AttributeError" in skipped
    assert title == "Fees"


def test_a_parser_of_the_caller_reads_its_suffixes_and_comes_before_the_built_in_one(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "a.lines").write_text("x:one\n:two")
    (folder / "b.txt").write_text("y:three")
    (folder / "c.md").write_text("four")
    with opened(tmp_path, Lines()) as rag:
        assert rag.index(folder).documents == 4
        assert documents(rag) == ["a.lines#2", "a.lines#x", "b.txt#y", "c.md"]
        assert rag.index(folder).unchanged == 3


def test_parsers_of_the_call_come_first(tmp_path: Path, folder: Path) -> None:
    (folder / "a.x").write_text("text")
    with opened(tmp_path, Giving([Document("of the pipeline")])) as rag:
        rag.index(folder, parsers=[Giving([Document("of the call")])])
        assert rag.passages("of the").passages[0].text == "of the call"


def test_another_name_parses_anew_and_another_parser_too(tmp_path: Path, folder: Path) -> None:
    (folder / "a.txt").write_text("x:one")
    parser = Lines()
    with opened(tmp_path, parser) as rag:
        rag.index(folder)
        assert rag.index(folder).unchanged == 1
        parser.name = "lines:2"  # type: ignore[misc]
        assert rag.index(folder).unchanged == 0
    with opened(tmp_path) as rag:
        assert rag.index(folder).unchanged == 0 and documents(rag) == ["a.txt"]
        assert rag.index(folder).unchanged == 1


def test_a_run_without_the_parser_leaves_its_files_alone(tmp_path: Path, folder: Path) -> None:
    (folder / "a.lines").write_text("x:one")
    (folder / "b.lines").write_text("y:two")
    (folder / "c.md").write_text("three")
    with opened(tmp_path, Lines()) as rag:
        rag.index(folder)
    with opened(tmp_path) as rag:
        rag.index(folder)
        assert documents(rag) == ["a.lines#x", "b.lines#y", "c.md"]
        (folder / "a.lines").unlink()
        rag.index(folder)
        assert documents(rag) == ["b.lines#y", "c.md"]


def test_an_exception_costs_its_file_alone(tmp_path: Path, folder: Path) -> None:
    (folder / "a.lines").write_text("x:one")
    with opened(tmp_path, Lines()) as rag:
        rag.index(folder)
        (folder / "a.lines").write_text("raise")
        (folder / "b.lines").write_text("raise")
        (folder / "c.lines").write_text("z:three")
        report = rag.index(folder)
        assert documents(rag) == ["a.lines#x", "c.lines#z"]  # what was stored of it stays
    assert [Path(skip.path).name for skip in report.skipped] == ["a.lines", "b.lines"]
    for skip in report.skipped:
        assert skip.reason == (
            "expected a file that parser 'lines:1' can read; found KeyError: 'what\\nis missing'; "
            "repair the file or the parser"
        )


WRONG = {
    "nothing": (None, "found NoneType; correct its method parse"),
    "text": ("text", "found str"),
    "a mapping": ({"text": "a"}, "found dict"),
    "an iterator that fails": (map(int, "x"), "found ValueError: invalid literal"),
    "no documents": ([], "found no document, by parser 'giving'"),
    "something else": (["text"], "found a str among the documents"),
    "blank": ([Document(" ")], "text in document 1 of parser 'giving'; found a blank one"),
    "surrogate": ([Document("\ud800")], "found a lone surrogate in its text"),
    "list in metadata": ([Document("a", metadata={"k": []})], "metadata 'k' of document 1"),  # type: ignore[dict-item]
    "one id twice": ([Document("a", id="i"), Document("b", id="i")], "found id 'i' twice"),
    "an id that is a number of another": ([Document("a", id="2"), Document("b")], "found id '2' twice"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_result_that_cannot_be_used_skips_the_file_in_one_line(tmp_path: Path, folder: Path, name: str) -> None:
    result, message = WRONG[name]
    (folder / "a.x").write_text("text")
    (folder / "b.md").write_text("good")
    with opened(tmp_path, Giving(result)) as rag:
        (skip,) = rag.index(folder).skipped
        assert message in skip.reason and "\n" not in skip.reason and documents(rag) == ["b.md"]
        with pytest.raises(SourceError, match="nothing readable"):
            rag.index(folder / "a.x")


def test_a_parser_may_yield(tmp_path: Path, folder: Path) -> None:
    (folder / "a.x").write_text("text")
    with opened(tmp_path, Giving(Document(text) for text in ("one", "two"))) as rag:
        rag.index(folder)
        assert documents(rag) == ["a.x#1", "a.x#2"]


def test_a_parser_may_say_what_it_left_out(tmp_path: Path, folder: Path) -> None:
    (folder / "a.x").write_text("text")
    left_out = Skipped("a.x:2", "expected a number; found none; fill it")
    with opened(tmp_path, Giving(ParseResult((Document("one"),), (left_out,)))) as rag:
        assert rag.index(folder).skipped == (left_out,)
        assert rag.index(folder).skipped == (left_out,)  # parsed again, so that it is reported again


def test_a_parser_may_say_what_it_read_only_in_part(tmp_path: Path, folder: Path) -> None:
    (folder / "a.x").write_text("text")
    given = ParseResult((Document("one"),), notices=(Notice("drawings", 2, "two of them"),))
    with opened(tmp_path, Giving(given)) as rag:
        for _ in range(2):  # of an unchanged file it is said again
            (notice,) = rag.index(folder).notices
            assert (notice.kind, notice.count, notice.files) == ("drawings", 2, 1)


@pytest.mark.parametrize("missing", ["name", "suffixes", "parse"])
def test_an_object_that_lacks_a_member_is_refused_in_one_line(tmp_path: Path, missing: str) -> None:
    members = {"name": "x", "suffixes": (".x",), "parse": lambda self, data, name: []}
    members.pop(missing)
    lacking = type("Lacking", (), members)()
    with pytest.raises(PluginError, match=f"found Lacking without {missing}; see the how-to") as caught:
        RAG.open(tmp_path / "store", create=True, parsers=[lacking])
    assert "\n" not in str(caught.value)
    with opened(tmp_path) as rag, pytest.raises(PluginError, match=f"found Lacking without {missing}"):
        rag.index(tmp_path, parsers=[lacking])
    with pytest.raises(PluginError, match="found the class Lines; create an instance"):
        RAG.open(tmp_path / "store", create=True, parsers=[Lines])  # type: ignore[list-item]


@pytest.mark.parametrize("suffixes", [".x", ("x",), ("",), (".tar.gz",), (3,), (".",)])
def test_a_suffix_that_is_none_is_refused(suffixes: Any) -> None:
    parser = Giving([])
    parser.suffixes = suffixes  # type: ignore[misc]
    with pytest.raises(PluginError, match=r"expected suffixes such as \('\.eml',\)"):
        ParserRegistry([parser])


def test_the_built_in_parsers_are_parsers_too(tmp_path: Path, folder: Path) -> None:
    (text,) = [parser for parser in BUILTIN_PARSERS if ".txt" in parser.suffixes]
    (document,) = text.parse(b"words", "a.txt").documents
    assert (document.text, document.title) == ("words", "")

    class Log:
        name, suffixes = "log", (".log",)

        def parse(self, data: bytes, name: str) -> Any:
            return text.parse(data, name)

    (folder / "a.log").write_text("words")
    with opened(tmp_path, Log()) as rag:
        assert rag.index(folder).documents == 1
