"""Links of citations open the page's reader where they point; where the page is off they are JSON."""

from __future__ import annotations

import openai
import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect
from served import QUESTION, TEXTS
from starlette.requests import Request

from mixrag import RAG
from mixrag.server.app import make_app
from mixrag.server.document_links import document_link
from mixrag.server.service import Service
from page_tools import violations


def cited(address: str) -> str:
    """The address of the first citation, as a chat's client gets it."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        asked = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": QUESTION}])
    annotations = asked.choices[0].message.annotations
    assert annotations
    return str(annotations[0].url_citation.url)


def test_a_citation_opens_its_passage(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(cited(address))
    reader = page.locator("#reader")
    expect(reader.locator("mark")).to_have_text(TEXTS["cod.txt"])
    expect(reader.locator("h2")).to_have_text("cod.txt")
    assert violations(page) == ""
    page.keyboard.press("Escape")
    expect(reader).to_be_hidden()
    assert "#" not in page.url
    page.close()


def test_a_link_to_a_page_without_an_offset_opens_the_page(tab: Page, rag: RAG) -> None:
    document = next(each.path for each in rag.store.documents() if each.path.endswith("eel.txt"))
    tab.evaluate("a => { location.hash = new URLSearchParams(a).toString(); }", {"document": document})
    expect(tab.locator("#reader .document")).to_have_text(TEXTS["eel.txt"])
    expect(tab.locator("#reader mark")).to_have_count(0)


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ("#document=/etc/passwd&offset=0", "a document of this store"),
        ("#store=other&document=cod.txt", "This server has no store “other”."),
    ],
)
def test_what_is_not_there_is_said_to_be(tab: Page, fragment: str, said: str) -> None:
    tab.evaluate("a => { location.hash = a; }", fragment)
    expect(tab.locator("[role=alert]:visible")).to_contain_text(said)


@pytest.mark.parametrize(
    "fragment", ["", "#", "#help", "#store=demo", "#document=", "#%", "#document=x&page=-1&offset=1e9"]
)
def test_other_fragments_are_no_links_and_no_errors(functions: Page, fragment: str) -> None:
    found = functions.evaluate("async (a) => (await import('/page/links.js')).linkedPlace(a)", fragment)
    assert found is None or (found["page"], found["offset"]) == (None, None)


def test_a_key_is_asked_for_where_it_is_needed(browser: Browser, address: str) -> None:
    page = browser.new_page()

    def guard(route: object) -> None:
        if route.request.headers.get("authorization") == "Bearer right":  # type: ignore[attr-defined]
            route.continue_()  # type: ignore[attr-defined]
        else:
            route.fulfill(status=401, json={"error": {"message": "a key is needed", "code": "no_key"}})  # type: ignore[attr-defined]

    address_of_citation = cited(address)
    page.route("**/v1/**", guard)
    page.goto(address_of_citation)
    page.get_by_label("API key").fill("right")
    page.keyboard.press("Enter")
    expect(page.locator("#reader mark")).to_have_text(TEXTS["cod.txt"])
    page.close()


def link(app: FastAPI, page: int | None) -> str:
    """A link as a response of this application has it."""
    scope = {"type": "http", "app": app, "path": "/", "root_path": "", "scheme": "http", "query_string": b""}
    request = Request({**scope, "server": ("127.0.0.1", 80), "headers": []})
    return document_link(request, "demo", "/files/fees 1.pdf", page, 40)


def test_a_link_has_page_and_offset(service: Service) -> None:
    app = make_app(service)
    named = "http://127.0.0.1/#store=demo&document=%2Ffiles%2Ffees+1.pdf"
    assert link(app, 3) == f"{named}&page=3&offset=40"
    assert link(app, None) == f"{named}&offset=40"


def test_where_the_page_is_off_a_link_is_json() -> None:
    named = "http://127.0.0.1/v1/documents/content?store=demo&document=%2Ffiles%2Ffees+1.pdf"
    assert link(FastAPI(), 3) == f"{named}&page=3"
    assert link(FastAPI(), None) == f"{named}&offset=40"
