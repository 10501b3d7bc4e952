"""Follow-up questions: made to stand alone, shown as they were asked, changed, and forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from page_tools import ask, violations

COD = "What does a licence for cod cost?"
EEL = "And for eel?"
EEL_ALONE = "What does a licence for eel cost?"


def asked(tab: Page, question: str) -> Any:
    """Ask, and what was sent."""
    with tab.expect_request("**/v1/answers") as sent:
        ask(tab, question)
    expect(tab.locator("#asked")).to_have_text(question)
    return sent.value.post_data_json


def test_a_follow_up_is_made_to_stand_alone_and_says_so(tab: Page) -> None:
    assert "earlier" not in asked(tab, COD)
    expect(tab.locator("#rewritten")).to_be_hidden()
    assert asked(tab, EEL)["earlier"] == [COD]
    expect(tab.locator("#answer")).to_contain_text("four crowns")
    expect(tab.locator("#rewritten")).to_contain_text(f"Asked as {EEL_ALONE}")
    assert violations(tab) == ""
    assert asked(tab, "Who issues it?")["earlier"] == [COD, EEL_ALONE]


def test_the_turns_before_are_above_and_open_again(tab: Page) -> None:
    asked(tab, COD)
    expect(tab.locator("#thread")).to_be_hidden()
    asked(tab, EEL)
    turns = tab.locator("#thread .turn")
    assert [each.inner_text().split("\n") for each in turns.all()] == [[COD, "nine crowns"]]
    turns.first.click()
    expect(tab.locator("#answer")).to_contain_text("nine crowns")
    assert [each.inner_text().split("\n") for each in turns.all()] == [[EEL, "four crowns"]]
    assert violations(tab) == ""


def test_old_turns_are_behind_a_summary(tab: Page) -> None:
    for question in (COD, EEL_ALONE, "Who lays fewer eggs?", "What do hens do in winter?", "Is it cold?"):
        asked(tab, question)
    assert tab.locator("#thread .turn:visible").count() == 3
    tab.locator("#thread").get_by_text("1 earlier question").click()
    assert tab.locator("#thread .turn:visible").count() == 4
    assert violations(tab) == ""


def test_how_it_is_asked_can_be_changed(tab: Page) -> None:
    asked(tab, COD)
    asked(tab, EEL)
    tab.get_by_role("button", name="Change how it is asked").click()
    field = tab.get_by_label("Ask it as")
    expect(field).to_be_focused()
    assert field.input_value() == EEL_ALONE
    assert violations(tab) == ""
    field.fill(COD)
    with tab.expect_request("**/v1/answers") as sent:
        tab.keyboard.press("Enter")
    assert (sent.value.post_data_json["question"], "earlier" in sent.value.post_data_json) == (COD, False)
    expect(tab.locator("#rewritten")).to_contain_text(f"Asked as {COD}")
    expect(tab.locator("#asked")).to_have_text(EEL)
    expect(tab.locator("#answer")).to_contain_text("nine crowns")
    assert tab.locator("#thread .turn").count() == 1, "it is asked in the place of the one before"


def test_it_can_be_asked_as_it_was_written(tab: Page) -> None:
    asked(tab, COD)
    asked(tab, EEL)
    tab.get_by_role("button", name="Change how it is asked").click()
    with tab.expect_request("**/v1/answers") as sent:
        tab.get_by_role("button", name="Ask it as I wrote it").click()
    assert sent.value.post_data_json["question"] == EEL
    expect(tab.locator("#after")).to_be_visible()
    expect(tab.locator("#rewritten")).to_be_hidden()


def test_a_change_can_be_given_up(tab: Page) -> None:
    asked(tab, COD)
    asked(tab, EEL)
    tab.get_by_role("button", name="Change how it is asked").click()
    tab.get_by_role("button", name="Cancel").click()
    expect(tab.get_by_role("button", name="Change how it is asked")).to_be_focused()
    expect(tab.locator("#answer")).to_contain_text("four crowns")


def test_a_new_conversation_forgets_the_one_before(tab: Page) -> None:
    new = tab.get_by_role("button", name="New conversation")
    expect(new).to_be_hidden()
    asked(tab, COD)
    asked(tab, EEL)
    new.click()
    expect(tab.locator("#result")).to_be_hidden()
    expect(tab.locator("#thread")).to_be_hidden()
    expect(tab.locator("#question")).to_be_focused()
    expect(new).to_be_hidden()
    assert violations(tab) == ""
    assert "earlier" not in asked(tab, EEL)


def test_the_last_twenty_questions_are_sent(tab: Page) -> None:
    tab.evaluate("""async () => {
        const { Conversation } = await import('/page/conversation.js');
        globalThis.talk = new Conversation(() => {});
        for (let n = 0; n < 25; n++) talk.add({ question: `q${n}`, written: `w${n}`, answer: { answer: 'a' } });
    }""")
    assert tab.evaluate("talk.earlier()") == [f"q{n}" for n in range(5, 25)]
    assert tab.evaluate("talk.earlier(talk.turns[24])") == [f"q{n}" for n in range(4, 24)]


def test_an_entry_of_the_history_begins_a_conversation(tab: Page) -> None:
    asked(tab, COD)
    tab.reload()
    tab.get_by_role("button", name="History").click()
    tab.locator("#history-list .entry").click()
    assert asked(tab, EEL)["earlier"] == [COD]


def test_the_field_is_empty_after_asking_and_brings_the_last_question_back(tab: Page) -> None:
    asked(tab, COD)
    field = tab.locator("#question")
    assert field.input_value() == ""
    field.focus()
    tab.keyboard.press("ArrowUp")
    assert field.input_value() == COD


def test_a_question_that_failed_is_in_the_field_again(tab: Page) -> None:
    tab.route("**/v1/answers", lambda route: route.fulfill(status=429, json={"error": {"message": "too many"}}))
    tab.get_by_label("Ask your documents").fill(COD)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_have_text("too many")
    assert tab.locator("#question").input_value() == COD


@pytest.mark.parametrize("tab", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_it_fits_on_a_narrow_screen(tab: Page) -> None:
    asked(tab, COD)
    asked(tab, EEL)
    tab.get_by_role("button", name="Change how it is asked").click()
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
