"""The page in a real browser, which reaches nothing but the server of the test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from browsers import BROWSER, needs_browser
from page_tools import Answering

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say where no browser is installed."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(needs_browser)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-sandbox"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=quiet)
        yield found
        found.close()


@pytest.fixture
def tab(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, opened. Afterwards: no script failed, and nothing was asked of another host.

    ``tab`` takes the options of a browser's context by indirect parametrisation, such as a viewport.
    """
    options: dict[str, Any] = {"viewport": WIDE, "reduced_motion": "reduce", **getattr(request, "param", {})}
    context = browser.new_context(base_url=address, **options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    problems, asked = list[str](), set[str]()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if _is_problem(said) else None)
    page.on("request", lambda each: asked.add(each.url))
    page.goto("/")
    page.locator("#about:not(:empty), #empty:not([hidden])").first.wait_for(state="attached")
    yield page
    assert problems == []
    assert {each for each in asked if not each.startswith(f"{address}/")} == set()
    context.close()


def _is_problem(said: Any) -> bool:
    """Whether a script failed or broke the policy; statuses such as 404 are the test's own."""
    return said.type == "error" and "Failed to load resource" not in said.text


@pytest.fixture
def answering(tab: Page) -> Answering:
    """Let ``/v1/answers`` answer with given events instead of the server's."""

    def answer(*events: tuple[str, Any], status: int = 200) -> None:
        body = "".join(f"event: {name}\r\ndata: {json.dumps(data)}\r\n\r\n" for name, data in events)

        def fulfil(route: Route) -> None:
            route.fulfill(status=status, body=body, content_type="text/event-stream")

        tab.route("**/v1/answers", fulfil)

    return answer
