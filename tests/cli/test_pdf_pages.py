"""A question to a PDF of several pages: the passage that answers it names the page that holds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.test_commands import Shell
from pdf_writer import Pages
from tiny_encoder import save_encoder

TOPICS = ["lamp oil", "herring nets", "quay repairs", "walrus tusk licence", "ferry timetable", "bells"]


@pytest.fixture
def shell(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Shell:
    return Shell(tmp_path, save_encoder(tmp_path / "encoder"), tiny_folder("llama-chat"))


def test_the_passage_names_the_page(shell: Shell) -> None:
    pages = Pages()
    for number, topic in enumerate(TOPICS, start=1):
        if number > 1:
            pages.new_page()
        pages.put(72, 40, "Skerry year book")
        pages.lines(72, 140, [f"The chapter on the {topic} tells all that is known of it.", "It is short."])
        pages.put(300, 760, f"Page {number} of 6")
    file = shell.files / "book.pdf"
    file.write_bytes(pages.bytes())
    shell("index", shell.files)
    found = shell.json("passages", "walrus tusk licence", "--lexical", "1")["passages"][0]
    assert Path(found["document"]).name == "book.pdf" and (found["page"], found["place"]) == (4, "page 4")
    assert "walrus tusk" in found["text"] and "ferry" not in found["text"]
