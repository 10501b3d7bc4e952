"""What the tests of the page do again and again."""

from __future__ import annotations

from collections.abc import Callable

from axe_playwright_python.base import AXE_SCRIPT, AxeResults
from playwright.sync_api import Page, expect

Answering = Callable[..., None]


def ask(tab: Page, question: str) -> None:
    """Type a question, ask it, and wait for the answer."""
    tab.get_by_label("Ask your documents").fill(question)
    tab.keyboard.press("Enter")
    expect(tab.locator("#after")).to_be_visible(timeout=20_000)
    expect(tab.locator("#send")).to_be_visible()


def violations(tab: Page) -> str:
    """What axe finds against the page as it is now; empty where that is nothing."""
    # Most of the time of Axe.run goes into reading axe anew and into what passed, so neither is done here.
    if not tab.evaluate("'axe' in globalThis"):
        tab.evaluate(AXE_SCRIPT)
    found = tab.evaluate("axe.run({resultTypes: ['violations']}).then((found) => found.violations)")
    return AxeResults({"violations": found}).generate_report() if found else ""
