"""Documents from strangers: what they say is text on the page, and nothing of it runs, loads or turns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from mixrag import RAG, Settings
from mixrag.corpus import Document, Store
from page_tools import ask, violations
from scripted import scripted
from words_encoder import WordsEncoder

RUNS = "globalThis.ran = true; document.body.textContent = 'taken over'"
LOADS = "http://198.51.100.7/x"
HOSTILE = {
    "script": f"<script>{RUNS}</script>",
    "end of script": f"</script><script>{RUNS}</script>",
    "event": f"""<img src="{LOADS}" onerror="{RUNS}"><svg onload="{RUNS}"></svg>""",
    "attribute": f"""" onmouseover="{RUNS}" autofocus onfocus="{RUNS}" x=" """,
    "link": f"""<a href="javascript:{RUNS}">here</a> [here](javascript:void) <iframe src="{LOADS}"></iframe>""",
    "style": f"</style><style>body {{ display: none; background: url({LOADS}) }}</style>",
    "template": "{{ constructor.constructor('globalThis.ran = true')() }} ${globalThis.ran = true}",
    "direction": "gnp.\u202eecivres\u202c \u2066hidden\u2069 \u0007",
    "astral": "𝕏🙂" * 20,
}
QUESTION = "What does the licence cost?"


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    """A store whose documents, names, titles and answers are hostile."""
    answer = f"<img src={LOADS} onerror=globalThis.ran=true>"
    found = RAG(
        Store.open(tmp_path / "store", create=True),
        encoder=WordsEncoder(),
        generator=scripted({"": {answer: 1.0}}),
        settings=Settings(max_tokens=6, k=20),
    )
    documents = [
        Document(id=f"{name} {text[:40]}", text=f"The licence costs {text} nine crowns.", title=f"{text} {name}")
        for name, text in HOSTILE.items()
    ]
    with found:
        found.add(documents)
        yield found


def test_nothing_of_hostile_documents_runs(tab: Page) -> None:
    ask(tab, f"{QUESTION} {HOSTILE['script']}")
    tab.get_by_text("passages that wrote little", exact=False).click()
    tab.get_by_text("Details", exact=True).click()
    shown = tab.locator("#sources").inner_text()
    for text in ("<script>", "</script>", "onerror", "javascript:", "{{ constructor"):
        assert text in shown, text
    assert "onerror=globalThis.ran=true" in tab.locator("#answer").inner_text()
    tags = tab.evaluate("[...document.querySelectorAll('#result *')].map((node) => node.localName)")
    assert not {"script", "img", "iframe", "svg", "style", "a"} & set(tags)
    assert tab.evaluate("globalThis.ran") is None
    assert violations(tab) == ""


def test_what_turns_the_writing_direction_is_replaced(tab: Page) -> None:
    ask(tab, QUESTION)
    tab.get_by_text("passages that wrote little", exact=False).click()
    text = tab.evaluate("document.body.textContent")
    assert "gnp.\ufffdecivres\ufffd" in text
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u0000\u0007") & set(text)


def test_hostile_documents_are_listed_and_opened_as_text(tab: Page) -> None:
    ask(tab, QUESTION)
    tab.get_by_text("passages that wrote little", exact=False).click()
    sources = tab.locator(".passage .source")
    for n in range(sources.count()):
        sources.nth(n).click()
        expect(tab.locator("#reader mark").first).to_be_visible()
        assert "nine crowns." in tab.locator("#reader .document").inner_text()
        tab.keyboard.press("Escape")
    tab.get_by_role("button", name="Documents").click()
    expect(tab.locator("#document-list li")).to_have_count(len(HOSTILE))
    tab.keyboard.press("Escape")
    tab.get_by_role("button", name="History").click()
    expect(tab.locator("#history-list .entry")).to_have_count(1)
    assert tab.evaluate("globalThis.ran") is None


def test_a_span_after_characters_of_two_units_is_marked_where_it_is(tab: Page) -> None:
    ask(tab, QUESTION)
    tab.get_by_text("passages that wrote little", exact=False).click()
    tab.get_by_role("button", name="open astral", exact=False).click()
    expect(tab.locator("#reader mark").last).to_have_text(f"The licence costs {HOSTILE['astral']} nine crowns.")


def test_the_browser_refuses_text_as_html_anywhere(browser: Browser, address: str) -> None:
    """Were a line of the page to read text as HTML, its policy stops it."""
    page = browser.new_page()
    page.goto(address)
    for assignment in ("innerHTML = '<b>'", "outerHTML = '<b>'", "insertAdjacentHTML('beforeend', '<b>')"):
        script = f"document.querySelector('#about').{assignment}"
        caught = f"() => {{ try {{ {script}; return ''; }} catch (error) {{ return error.name; }} }}"
        assert page.evaluate(caught) == "TypeError", assignment
    page.close()
