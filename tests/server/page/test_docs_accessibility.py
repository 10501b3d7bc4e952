"""``/docs`` in a browser: axe finds nothing, nothing is wider than the screen, and no other host is asked."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from page_tools import violations


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_passes_axe(browser: Browser, address: str, scheme: str, width: int) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
    asked = set[str]()
    page.on("request", lambda each: asked.add(each.url))
    page.goto(f"{address}/docs")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert violations(page) == ""
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert {each for each in asked if not each.startswith(f"{address}/")} == set()
    page.close()
