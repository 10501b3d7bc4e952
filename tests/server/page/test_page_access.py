"""Everyone can use the page: by keyboard alone, on a narrow screen, in the dark, with a screen reader."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from page_tools import ask, violations

COD = "What does a licence for cod cost?"
NARROW = {"viewport": {"width": 360, "height": 740}}
PANELS = {"Documents": "#documents", "History": "#history", "Settings": "#settings", "Keys and help": "#help"}


def focused(tab: Page) -> str:
    """What has the focus, by its id, label or text."""
    return str(
        tab.evaluate(
            "(node => node.id || node.getAttribute('aria-label') || node.textContent)(document.activeElement)"
        )
    )


def is_wider_than_the_screen(tab: Page) -> bool:
    return bool(tab.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.mark.parametrize("tab", [{}, NARROW, {"color_scheme": "dark"}, {"forced_colors": "active"}], indirect=True)
def test_every_state_passes_axe(tab: Page) -> None:
    assert violations(tab) == ""
    for name, panel in PANELS.items():
        tab.get_by_role("button", name=name).click()
        expect(tab.locator(panel)).to_be_visible()
        assert violations(tab) == ""
        tab.keyboard.press("Escape")
        expect(tab.locator(panel)).to_be_hidden()
    ask(tab, COD)
    tab.get_by_text("Details", exact=True).click()
    assert violations(tab) == ""
    tab.locator("#answer .reference").first.click()
    expect(tab.locator("#reader mark").first).to_be_visible()
    assert violations(tab) == ""


@pytest.mark.parametrize("tab", [NARROW], indirect=True)
def test_nothing_is_wider_than_a_narrow_screen(tab: Page) -> None:
    assert not is_wider_than_the_screen(tab)
    question = tab.locator("#question")
    assert question.evaluate("node => node.scrollHeight <= node.clientHeight"), (
        "nor is its field lower than its text"
    )
    for name, panel in PANELS.items():
        tab.get_by_role("button", name=name).click()
        assert tab.locator(panel).evaluate("node => node.scrollWidth <= node.clientWidth"), name
        tab.keyboard.press("Escape")
    ask(tab, COD)
    tab.get_by_text("Details", exact=True).click()
    tab.get_by_role("button", name="Why is this wrong?").click()
    assert not is_wider_than_the_screen(tab)


@pytest.mark.parametrize("tab", [NARROW], indirect=True)
def test_on_a_narrow_screen_a_document_covers_the_rest(tab: Page) -> None:
    ask(tab, COD)
    tab.locator("#answer .reference").first.click()
    expect(tab.locator("#reader mark").first).to_be_visible()
    assert tab.locator("#reader").bounding_box() == {"x": 0, "y": 0, "width": 360, "height": 740}
    for _ in range(12):
        tab.keyboard.press("Tab")
        assert not tab.evaluate("document.querySelector('main, #top').contains(document.activeElement)")
    tab.get_by_role("button", name="Close").last.click()
    expect(tab.locator("#answer .reference").first).to_be_focused()


@pytest.mark.parametrize("tab", [{"color_scheme": "dark"}], indirect=True)
def test_in_the_dark_the_ground_is_dark_and_the_text_light(tab: Page) -> None:
    def light(style: str) -> float:
        colour = tab.evaluate(f"getComputedStyle(document.body).{style}").removeprefix("rgb(").rstrip(")")
        return sum(map(int, colour.split(","))) / (3 * 255)

    assert light("backgroundColor") < 0.15 and light("color") > 0.8


def test_the_keyboard_alone_is_enough(tab: Page) -> None:
    expect(tab.locator("#question")).to_be_focused()
    tab.keyboard.type(COD)
    tab.keyboard.press("Shift+Enter")
    assert tab.locator("#question").input_value() == f"{COD}\n"
    tab.keyboard.press("Backspace")
    tab.keyboard.press("Enter")
    expect(tab.locator("#send")).to_be_visible()
    order = []
    for _ in range(7):
        tab.keyboard.press("Tab")
        order.append(focused(tab))
    answer = ["Passage 1, cod.txt: open", "copy", "change", "wrong"]
    assert order == ["send", "new", *answer, "Passage 1: open cod.txt"]
    tab.keyboard.press("Enter")
    expect(tab.locator("#reader mark").first).to_be_visible()
    expect(tab.locator("#reader-title")).to_be_focused()
    tab.keyboard.press("Escape")
    expect(tab.get_by_label("Passage 1: open cod.txt")).to_be_focused()


def test_single_keys_are_shortcuts_outside_of_fields(tab: Page) -> None:
    ask(tab, COD)
    tab.locator("#copy").focus()
    for key, panel in (("d", "#documents"), ("h", "#history"), ("s", "#settings"), ("?", "#help")):
        tab.keyboard.press(key)
        expect(tab.locator(panel)).to_be_visible()
        tab.keyboard.press("Escape")
        expect(tab.locator(panel)).to_be_hidden()
    tab.keyboard.press("1")
    expect(tab.locator("#reader-title")).to_be_focused()
    tab.keyboard.press("Escape")
    tab.keyboard.press("w")
    expect(tab.get_by_label("I expected this answer")).to_be_focused()
    tab.locator("#copy").focus()
    tab.keyboard.press("/")
    expect(tab.locator("#question")).to_be_focused()
    tab.keyboard.press("d")
    expect(tab.locator("#documents")).to_be_hidden()
    assert tab.locator("#question").input_value() == "d"


def test_single_keys_can_be_switched_off(tab: Page) -> None:
    tab.locator("[data-opens=help]").click()
    tab.get_by_label("Use single keys as shortcuts").uncheck()
    tab.keyboard.press("Escape")
    tab.locator("#send").focus()
    tab.keyboard.press("d")
    expect(tab.locator("#documents")).to_be_hidden()
    tab.reload()
    tab.locator("#store, [data-opens=history]").last.focus()
    tab.keyboard.press("d")
    expect(tab.locator("#documents")).to_be_hidden()


def test_a_panel_gives_the_focus_back(tab: Page) -> None:
    opener = tab.get_by_role("button", name="Settings")
    opener.focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("#settings-title")).to_be_focused()
    tab.keyboard.press("Escape")
    expect(opener).to_be_focused()
