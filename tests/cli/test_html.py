"""mixrag ask --html: the page beside the answer, or one line before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import lxml.html
import pytest

from cli.test_commands import QUESTION, Shell
from tiny_encoder import save_encoder


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> Shell:
    """A store that tests only read."""
    encoder = save_encoder(tmp_path_factory.mktemp("html-encoder"))
    shell = Shell(tmp_path_factory.mktemp("html"), encoder, tiny_folder("llama-chat"))
    shell("index", shell.files)
    return shell


def test_the_page_is_written_and_told_of_on_standard_error(asked: Shell, tmp_path: Path) -> None:
    page = tmp_path / "why.html"
    printed = asked("ask", QUESTION, "-k", "2", "--html", page)
    assert "Sources:" in printed and "p(answer) = " not in printed, "that is for --why"
    assert asked.errors == f"mixrag: explanation written to {page}\n"
    found = lxml.html.document_fromstring(page.read_text(encoding="utf-8"))
    assert next(found.iter("h1")).text_content() == QUESTION
    assert len(list(found.iter("article"))) == 2
    assert list(tmp_path.iterdir()) == [page], "nothing half written is left"


def test_json_stays_one_document_and_the_page_has_its_numbers(asked: Shell, tmp_path: Path) -> None:
    page = tmp_path / "why.html"
    page.write_text("an older one")
    told = asked.json("ask", QUESTION, "-k", "2", "--null", "1", "--html", page)
    assert "why" not in told and asked.errors.count("\n") == 1
    found = lxml.html.document_fromstring(page.read_text(encoding="utf-8"))
    values = [float(data.get("value")) for data in found.find_class("headline")[0].iter("data")]
    assert values == [told["probability"], told["log_prob"]]
    both = asked.json("ask", QUESTION, "-k", "2", "--why", "--html", page)
    assert len(both["why"]["components"]) == 2


def test_a_link_stays_a_link(asked: Shell, tmp_path: Path) -> None:
    (tmp_path / "link.html").symlink_to(tmp_path / "why.html")
    asked("ask", QUESTION, "-k", "0", "--html", tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink() and "<h1" in (tmp_path / "why.html").read_text()


@pytest.mark.parametrize(
    ("path", "part"),
    [
        (".", "a folder"),
        ("nowhere/why.html", "mkdir -p"),
        ("/dev/null", "a device or pipe"),
        ("x" * 300 + ".html", "name another"),
        ("loop", "name another"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_the_question_is_answered(
    asked: Shell, tmp_path: Path, path: str, part: str
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with mock.patch("mixrag.RAG.stream", side_effect=AssertionError("answered")):
        assert part in asked.refused("ask", QUESTION, "--html", tmp_path / path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "loop"]


def test_a_folder_that_cannot_be_written_to_is_refused(asked: Shell, tmp_path: Path) -> None:
    with mock.patch("os.access", side_effect=lambda path, mode: Path(path) != tmp_path):
        assert "a folder that can be written to" in asked.refused("ask", QUESTION, "--html", tmp_path / "a.html")


def test_a_full_disk_is_one_line_and_leaves_the_older_page(asked: Shell, tmp_path: Path) -> None:
    page = tmp_path / "why.html"
    page.write_text("an older one")
    with mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")):
        assert "No space left" in asked.refused("ask", QUESTION, "-k", "1", "--json", "--html", page)
    assert page.read_text() == "an older one" and list(tmp_path.iterdir()) == [page]


def test_the_facade_makes_the_same_page(asked: Shell, tmp_path: Path) -> None:
    from mixrag import RAG, ModelConfig

    options = dict(zip(*[iter(asked.models["ask"])] * 2, strict=True))
    models = ModelConfig(encoder=options["--encoder"], generator=options["--generator"])
    asked("ask", QUESTION, "-k", "2", "--html", tmp_path / "why.html")
    with RAG.open(asked.store, models=models, settings={"k": 2, "max_tokens": 6}) as rag:
        page = rag.ask(QUESTION).to_html()
    assert page == (tmp_path / "why.html").read_text(encoding="utf-8")
    assert json.dumps(QUESTION)[1:-1] in page
