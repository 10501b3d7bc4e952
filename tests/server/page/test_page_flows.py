"""The page and the server together: ask, stream, open a passage, upload, delete, diagnose, several stores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, expect

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from page_tools import ask, violations
from scripted import scripted
from words_encoder import WordsEncoder

COD = "What does a licence for cod cost?"


@pytest.fixture
def service(rag: RAG, tmp_path: Path) -> Iterator[Service]:
    """Two stores: "demo" with the preset "short", and "empty" without a document."""
    other = RAG(
        Store.open(tmp_path / "empty", create=True),
        encoder=WordsEncoder(),
        generator=scripted({"": {"nothing": 1.0}}),
        settings=Settings(max_tokens=6),
    )
    with other:
        yield Service(Stores([Served("demo", rag, {"short": {"max_tokens": 1}}), Served("empty", other)]))


def text_file(name: str, text: str) -> FilePayload:
    """A file as a person chooses it."""
    return {"name": name, "mimeType": "text/plain", "buffer": text.encode()}


def documents(tab: Page) -> list[str]:
    """Names in the list of documents, once it is drawn."""
    expect(tab.locator("#document-list")).not_to_be_empty()
    return tab.locator("#document-list .name").all_inner_texts()


def test_a_question_is_answered_from_its_passage(tab: Page) -> None:
    ask(tab, COD)
    assert tab.locator("#answer .run").inner_text().split() == ["nine", "crowns1"]
    expect(tab.locator(".passage").first).to_contain_text("A licence to fish cod costs nine crowns a year.")
    assert tab.title().startswith(COD)
    assert violations(tab) == ""


def test_words_and_posterior_bars_appear_one_by_one(tab: Page) -> None:
    tab.evaluate("""() => {
        globalThis.seen = [];
        const look = () => {
            const words = document.querySelector("#answer .words")?.textContent ?? "";
            const fills = [...document.querySelectorAll(".meter.after .fill")];
            const bars = fills.map((fill) => fill.style.getPropertyValue("--share"));
            seen.push([words, ...bars.map(Number)]);
        };
        const all = { childList: true, subtree: true, attributes: true };
        new MutationObserver(look).observe(document.querySelector("#result"), all);
    }""")
    ask(tab, COD)
    seen = tab.evaluate("seen")
    words = [each for each in dict.fromkeys(each[0].strip() for each in seen) if each]
    assert words[:2] == ["nine", "nine crowns"]
    bars = list(dict.fromkeys(tuple(each[1:]) for each in seen if each[1:]))
    assert bars[0] == (0, 0, 0) and bars[1][0] > 0.8, "nothing is written, then passage 1 writes"


def test_the_live_region_says_what_happens(tab: Page) -> None:
    answer = tab.locator("#answer")
    assert answer.get_attribute("aria-live") == "polite"
    ask(tab, COD)
    assert answer.get_attribute("aria-busy") == "false"
    expect(tab.get_by_role("status")).to_contain_text("The answer is there.")


def test_a_passage_opens_its_document_with_the_span_marked(tab: Page) -> None:
    ask(tab, COD)
    tab.locator("#answer .reference").click()
    reader = tab.locator("#reader")
    expect(reader.locator("mark.cited")).to_have_text("nine crowns")
    assert reader.locator(".document").inner_text() == "A licence to fish cod costs nine crowns a year."
    expect(reader.locator("h2")).to_be_focused()
    assert violations(tab) == ""
    tab.keyboard.press("Escape")
    expect(reader).to_be_hidden()
    expect(tab.locator("#answer .reference")).to_be_focused()


def test_a_long_document_opens_at_its_passage_and_leads_on(tab: Page) -> None:
    filler = "\n\n".join(
        f"Section {n}. The wind was noted at station {n} and the tide was entered in the log." for n in range(400)
    )
    text = f"{filler}\n\nA licence to fish pike costs seven crowns.\n\n{filler}"
    tab.get_by_role("button", name="Documents").click()
    tab.locator("#files").set_input_files(text_file("pike.txt", text))
    expect(tab.locator("#uploads")).to_contain_text("Added pike.txt")
    tab.get_by_role("button", name="Close").first.click()
    ask(tab, "What does a licence to fish pike cost?")
    tab.locator(".rest summary").click()
    tab.get_by_role("button", name=re.compile("open pike.txt")).first.click()
    mark = tab.locator("#reader mark").first
    expect(mark).to_be_in_viewport()
    shown = tab.locator("#reader .document").inner_text()
    tab.get_by_role("button", name="After").click()
    expect(tab.locator("#reader .document")).not_to_have_text(shown)
    tab.get_by_role("button", name="Before").click()
    expect(tab.locator("#reader .document")).to_contain_text("Section")
    assert violations(tab) == ""


def test_uploaded_documents_answer_at_once(tab: Page) -> None:
    tab.get_by_role("button", name="Documents").click()
    assert documents(tab) == ["cod.txt", "eel.txt", "hen.txt"]
    tab.locator("#files").set_input_files(
        [
            text_file("eels.txt", "A licence to fish eel in the lake costs four crowns."),
            text_file("notes.xyz", "no parser"),
        ]
    )
    said = tab.locator("#uploads .upload")
    expect(said).to_contain_text("Added eels.txt (1 passage). Left out:")
    assert "notes.xyz" in said.locator(".left-out").inner_text()
    expect(tab.locator("#document-list .name")).to_have_count(4)
    assert violations(tab) == ""
    tab.get_by_role("button", name="Close").first.click()
    expect(tab.locator("#about")).to_contain_text("4 documents")
    ask(tab, "What does a licence to fish eel in the lake cost?")
    expect(tab.locator(".passage").first).to_contain_text("eels.txt")


def test_files_can_be_dropped_anywhere(tab: Page) -> None:
    drop = tab.evaluate_handle("""() => {
        const data = new DataTransfer();
        data.items.add(new File(["A licence to fish roach costs two crowns."], "roach.txt"));
        return data;
    }""")
    tab.dispatch_event("main", "dragover", {"dataTransfer": drop})
    expect(tab.get_by_text("Drop the files to add them")).to_be_visible()
    tab.dispatch_event("main", "drop", {"dataTransfer": drop})
    expect(tab.locator("#uploads")).to_contain_text("Added roach.txt")
    expect(tab.get_by_text("Drop the files to add them")).to_be_hidden()


def test_a_document_is_deleted_after_one_more_click(tab: Page) -> None:
    tab.get_by_role("button", name="Documents").click()
    documents(tab)
    tab.get_by_role("button", name="Delete hen.txt …").click()
    tab.get_by_role("button", name="Keep").click()
    assert len(documents(tab)) == 3
    tab.get_by_role("button", name="Delete hen.txt …").click()
    assert violations(tab) == ""
    tab.get_by_role("button", name="Delete hen.txt from the store").click()
    expect(tab.locator("#document-list .name")).to_have_text(["cod.txt", "eel.txt"])
    expect(tab.locator("#about")).to_contain_text("2 documents")


def test_a_diagnosis_says_at_which_step_an_answer_was_lost(tab: Page) -> None:
    ask(tab, COD)
    tab.get_by_role("button", name="Why is this wrong?").click()
    expect(tab.get_by_label("I expected this answer")).to_be_focused()
    tab.keyboard.type("forty crowns")
    tab.keyboard.press("Enter")
    found = tab.locator("#diagnosis")
    expect(found.locator(".finding")).to_contain_text("No passage of your documents says it in these words.")
    expect(found.locator(".steps .failed")).to_contain_text("Your documents say it: no")
    assert violations(tab) == ""


def test_a_diagnosis_offers_to_ask_again_where_that_helps(tab: Page) -> None:
    tab.keyboard.press("Tab")
    tab.get_by_role("button", name="Settings").click()
    tab.get_by_label("Passages to read").fill("1")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Escape")
    ask(tab, COD)
    tab.get_by_role("button", name="Why is this wrong?").click()
    tab.keyboard.type("four crowns")
    tab.keyboard.press("Enter")
    expect(tab.locator(".finding")).to_have_text(
        "A passage says it, but it came at place 2, and only 1 passage was read."
    )
    tab.get_by_role("button", name="Ask again, reading 2 passages").click()
    expect(tab.locator(".passage")).to_have_count(2)
    expect(tab.locator("#about")).to_contain_text("1 setting is changed.")


def test_an_expected_answer_that_is_there_is_said_to_be(tab: Page) -> None:
    ask(tab, COD)
    tab.get_by_role("button", name="Why is this wrong?").click()
    tab.keyboard.type("nine crowns")
    tab.keyboard.press("Enter")
    expect(tab.locator(".finding")).to_have_text("The answer is the one that you expected.")


def test_another_store_has_its_own_documents(tab: Page) -> None:
    tab.get_by_label("Store", exact=True).select_option("empty")
    expect(tab.get_by_role("heading", name="This store has no documents yet")).to_be_visible()
    expect(tab.locator("#question")).to_be_hidden()
    assert violations(tab) == ""
    tab.locator("#files").set_input_files(text_file("rain.txt", "It rained all day."))
    expect(tab.locator("#about")).to_contain_text("1 document (1 passage) in empty")
    tab.keyboard.press("Escape")
    ask(tab, "Did it rain?")
    expect(tab.locator(".passage")).to_contain_text("rain.txt")


def test_a_preset_and_settings_change_what_is_asked(tab: Page) -> None:
    tab.get_by_label("Preset").select_option("short")
    tab.get_by_role("button", name="Settings").click()
    expect(tab.get_by_label("Longest answer")).to_have_attribute("placeholder", "as it is: 1")
    tab.get_by_label("Passages to read").fill("none")
    tab.keyboard.press("Tab")
    expect(tab.locator("#setting-k-problem")).to_have_text("Give a whole number from 0, or all.")
    assert violations(tab) == ""
    tab.get_by_label("Passages to read").fill("2")
    tab.get_by_text("More settings").click()
    assert violations(tab) == ""
    tab.keyboard.press("Escape")
    with tab.expect_request("**/v1/answers") as sent:
        ask(tab, COD)
    assert sent.value.post_data_json == {
        "model": "demo:short",
        "question": COD,
        "settings": {"k": 2},
        "stream": True,
    }
    expect(tab.locator("#answer")).to_contain_text("cut off")
    tab.get_by_role("button", name="Use the defaults").first.click()
    expect(tab.locator("#about")).not_to_contain_text("changed")


def test_questions_are_remembered_until_they_are_cleared(tab: Page) -> None:
    ask(tab, COD)
    ask(tab, "Who lays fewer eggs?")
    tab.reload()
    tab.get_by_role("button", name="History").click()
    rows = tab.locator("#history-list .entry")
    assert [each.inner_text().split("\n")[0] for each in rows.all()] == ["Who lays fewer eggs?", COD]
    assert violations(tab) == ""
    rows.nth(1).click()
    expect(tab.locator("#answer")).to_contain_text("nine crowns")
    expect(tab.get_by_role("button", name="Ask again")).to_be_visible()
    tab.get_by_role("button", name="History").click()
    tab.get_by_role("button", name="Clear the history").click()
    expect(tab.locator("#history-list")).to_have_text("No questions yet.")
    assert tab.evaluate("localStorage.getItem('mixrag-history')") is None


def test_an_answer_can_be_stopped(tab: Page) -> None:
    tab.route("**/v1/answers", lambda route: None)  # it never comes
    tab.get_by_label("Ask your documents").fill(COD)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("button", name="Stop")).to_be_visible()
    assert violations(tab) == ""
    tab.keyboard.press("Escape")
    expect(tab.locator("#answer")).to_have_text("Stopped.")
    expect(tab.get_by_role("button", name="Ask", exact=True)).to_be_visible()


def test_asking_and_stopping_by_their_buttons_keeps_the_focus(tab: Page) -> None:
    tab.route("**/v1/answers", lambda route: None)  # it never comes
    tab.get_by_label("Ask your documents").fill(COD)
    tab.keyboard.press("Tab")
    tab.keyboard.down("Enter")
    tab.keyboard.down("Enter")  # held down
    tab.keyboard.up("Enter")
    expect(tab.get_by_role("button", name="Stop")).to_be_focused()
    tab.keyboard.press("Enter")
    expect(tab.locator("#answer")).to_have_text("Stopped.")
    expect(tab.get_by_role("button", name="Ask", exact=True)).to_be_focused()


def test_a_key_is_asked_for_once_and_stays_in_the_tab(tab: Page) -> None:
    def guard(route: object) -> None:
        if route.request.headers.get("authorization") == "Bearer right":  # type: ignore[attr-defined]
            route.continue_()  # type: ignore[attr-defined]
        else:
            route.fulfill(status=401, json={"error": {"message": "a key is needed", "code": "no_key"}})  # type: ignore[attr-defined]

    tab.route("**/v1/**", guard)
    tab.reload()
    key = tab.get_by_label("API key")
    expect(key).to_be_visible()
    assert violations(tab) == ""
    key.fill("wrong")
    tab.keyboard.press("Enter")
    expect(tab.get_by_text("This key is not accepted.")).to_be_visible()
    key.fill("right")
    tab.keyboard.press("Enter")
    expect(tab.locator("#about")).to_contain_text("3 documents")
    ask(tab, COD)
    assert tab.evaluate(
        "[sessionStorage.getItem('mixrag-key'), JSON.stringify(localStorage).includes('right')]"
    ) == ["right", False]


def test_models_that_are_being_loaded_are_said_to_be(tab: Page) -> None:
    loading = {"status": "loading", "stores": {"demo": "loading"}}
    tab.route("**/health/ready", lambda route: route.fulfill(status=503, json=loading))
    tab.reload()
    about = tab.locator("#about")
    expect(about).to_contain_text("3 documents (3 passages) in demo. The models are being loaded")
    tab.unroute("**/health/ready")
    expect(about).not_to_contain_text("loaded")
    expect(about).to_contain_text("3 documents")
