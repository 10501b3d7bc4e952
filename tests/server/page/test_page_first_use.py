"""From an empty store to an explained answer, as a new user goes: each step on the page, and axe at each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from served import ANSWERS, TEXTS

from mixrag import RAG, Settings
from mixrag.corpus import Store
from page_tools import violations
from scripted import scripted
from words_encoder import WordsEncoder

COD = "What does a licence for cod cost?"


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    """A store that was made a moment ago."""
    found = RAG(
        Store.open(tmp_path / "store", create=True),
        encoder=WordsEncoder(),
        generator=scripted(ANSWERS),
        settings=Settings(max_tokens=6),
    )
    with found:
        yield found


def write_question(tab: Page, question: str) -> None:
    tab.get_by_label("Ask your documents").fill(question)
    tab.keyboard.press("Enter")


@pytest.mark.parametrize(
    "tab",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
    ],
    indirect=True,
    ids=["light", "dark", "narrow"],
)
def test_from_an_empty_store_to_an_explained_answer(tab: Page, tmp_path: Path) -> None:
    # It says what to do.
    expect(tab.get_by_role("heading", name="This store has no documents yet")).to_be_visible()
    expect(tab.get_by_text("Drop files or folders anywhere on this page")).to_be_visible()
    assert violations(tab) == ""

    # Upload.
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    with tab.expect_file_chooser() as chooser:
        tab.get_by_role("button", name="Choose files").click()
    chooser.value.set_files([tmp_path / name for name in TEXTS])
    said = tab.locator("#uploads .upload")
    expect(said).to_have_text("Added cod.txt, eel.txt, hen.txt (3 passages).")
    expect(said).to_be_visible()
    assert violations(tab) == ""
    tab.keyboard.press("Escape")
    expect(tab.locator("#about")).to_contain_text("Answers come from 3 documents (3 passages)")
    assert violations(tab) == ""

    # Ask; the answer comes with its colours, how sure it is, and its passage.
    expect(tab.get_by_label("Ask your documents")).to_be_focused()
    write_question(tab, COD)
    expect(tab.locator("#after")).to_be_visible()
    assert tab.locator("#answer .run").inner_text().split() == ["nine", "crowns1"]
    expect(tab.locator("#answer .sure")).to_be_visible()
    expect(tab.locator(".passage").first).to_contain_text("Wrote the answer")
    assert violations(tab) == ""

    # Open the passage.
    tab.locator("#answer .reference").click()
    expect(tab.locator("#reader mark.cited")).to_have_text("nine crowns")
    assert violations(tab) == ""
    tab.keyboard.press("Escape")

    # What would change it?
    tab.get_by_role("button", name="What would change it?").click()
    expect(tab.locator("#changes .finding")).to_contain_text("without it the answer would be four crowns")
    assert violations(tab) == ""

    # Why is it wrong?
    tab.get_by_role("button", name="Why is this wrong?").click()
    tab.keyboard.type("forty crowns")
    tab.keyboard.press("Enter")
    expect(tab.locator("#diagnosis .finding")).to_contain_text("No passage of your documents says it")
    assert violations(tab) == ""

    # A follow-up.
    write_question(tab, "And for eel?")
    expect(tab.locator("#answer")).to_contain_text("four crowns")
    expect(tab.locator("#rewritten")).to_contain_text("Asked as What does a licence for eel cost?")
    expect(tab.locator("#thread .turn")).to_have_count(1)
    assert violations(tab) == ""

    # Delete all.
    tab.get_by_role("button", name="Documents").click()
    for name in TEXTS:
        tab.get_by_role("button", name=f"Delete {name} …").click()
        tab.get_by_role("button", name=f"Delete {name} from the store").click()
        expect(tab.locator("#document-list .name").get_by_text(name)).to_have_count(0)
    expect(tab.locator("#document-list")).to_have_text("No documents yet.")
    assert violations(tab) == ""
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("heading", name="This store has no documents yet")).to_be_visible()
