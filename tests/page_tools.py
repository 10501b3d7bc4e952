"""What the tests of the page do again and again."""

from __future__ import annotations

from collections.abc import Callable

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

Answering = Callable[..., None]


def ask(tab: Page, question: str) -> None:
    """Type a question, ask it, and wait for the answer."""
    tab.get_by_label("Ask your documents").fill(question)
    tab.keyboard.press("Enter")
    expect(tab.locator("#after")).to_be_visible(timeout=20_000)


def violations(tab: Page) -> str:
    """What axe finds against the page as it is now; empty where that is nothing."""
    found = Axe().run(tab)
    return found.generate_report() if found.violations_count else ""
