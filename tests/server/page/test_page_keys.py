"""With a key, questions and answers are where the key is, and are forgotten with it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from page_tools import ask, violations

COD = "What does a licence for cod cost?"
STORED = "[localStorage, sessionStorage].map((each) => JSON.parse(each.getItem('mixrag-history') ?? '[]').length)"


class Guard:
    """A server that takes one key."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, route: Any) -> None:
        if route.request.headers.get("authorization") == f"Bearer {self.key}":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": {"message": "a key is needed", "code": "no_key"}})


@pytest.fixture
def guard(tab: Page) -> Guard:
    """The page, with the key "right" given to it."""
    found = Guard("right")
    tab.route("**/v1/**", found)
    tab.reload()
    give(tab, "right")
    return found


def give(tab: Page, key: str) -> None:
    tab.get_by_label("API key").fill(key)
    tab.keyboard.press("Enter")
    expect(tab.locator("#about")).to_contain_text("3 documents")


def test_answers_to_a_key_are_in_the_tab_alone(tab: Page, guard: Guard) -> None:
    ask(tab, COD)
    assert tab.evaluate(STORED) == [0, 1]
    tab.get_by_role("button", name="History").click()
    expect(tab.locator("#history-note")).to_contain_text("in this tab only")
    assert tab.locator("#history-list .entry").count() == 1
    assert violations(tab) == ""


def test_what_was_answered_before_there_was_a_key_goes_with_it(tab: Page) -> None:
    ask(tab, COD)
    assert tab.evaluate(STORED) == [1, 0]
    tab.route("**/v1/**", Guard("right"))
    tab.reload()
    give(tab, "right")
    assert tab.evaluate(STORED) == [0, 1]


def test_forgetting_the_key_forgets_them(tab: Page, guard: Guard) -> None:
    ask(tab, COD)
    tab.get_by_role("button", name="History").click()
    tab.get_by_role("button", name="Forget the key").click()
    expect(tab.get_by_label("API key")).to_be_visible()
    assert tab.evaluate(STORED) == [0, 0]
    assert tab.evaluate("sessionStorage.getItem('mixrag-key')") is None


def test_a_key_that_is_no_longer_accepted_is_forgotten_with_them(tab: Page, guard: Guard) -> None:
    ask(tab, COD)
    guard.key = "another"
    tab.get_by_role("button", name="Documents").click()
    expect(tab.get_by_text("This key is not accepted.")).to_be_visible()
    assert tab.evaluate(STORED) == [0, 0]
    tab.get_by_label("API key").fill("another")
    tab.keyboard.press("Enter")
    expect(tab.locator("#document-list .name")).to_have_count(3)


def test_without_a_key_there_is_none_to_forget(tab: Page) -> None:
    ask(tab, COD)
    tab.get_by_role("button", name="History").click()
    expect(tab.get_by_role("button", name="Forget the key")).to_be_hidden()
    expect(tab.locator("#history-note")).to_contain_text("in this browser only")
