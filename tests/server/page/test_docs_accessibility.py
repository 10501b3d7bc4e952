"""``/docs`` in a browser: axe finds nothing, nothing is wider than the screen, and no other host is asked."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from page_tools import violations


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_passes_axe(browser: Browser, address: str, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    asked = set[str]()
    page.on("request", lambda each: asked.add(each.url))
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{address}/docs")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert violations(page) == "", width
        wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not page.evaluate(wider), width
    assert {each for each in asked if not each.startswith(f"{address}/")} == set()
    page.close()
