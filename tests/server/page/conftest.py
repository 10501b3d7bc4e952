"""The page in a real browser, which reaches nothing but the server of the test."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Page, Route, ViewportSize, sync_playwright
from served import listening

from browsers import BROWSER, needs_browser
from mixrag.server.app import make_app
from mixrag.server.page import routes
from mixrag.server.service import Service
from page_tools import Answering

WIDE: ViewportSize = {"width": 1280, "height": 900}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say where no browser is installed."""
    for item in items:
        if {"browser", "functions"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(needs_browser)


_HELD = ExitStack()
_FOUND: list[tuple[Browser, BrowserContext]] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """End the browser after the last test of this folder: while it lasts, other tests cannot run an event loop."""
    yield
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        _FOUND.clear()
        _HELD.close()


def _started() -> tuple[Browser, BrowserContext]:
    """The browser, and the context whose cache all tests share."""
    if not _FOUND:
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-sandbox"]
        playwright = _HELD.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=BROWSER, args=quiet)
        _HELD.callback(browser.close)
        _FOUND.append((browser, browser.new_context(viewport=WIDE, reduced_motion="reduce")))
    return _FOUND[0]


@pytest.fixture
def browser() -> Browser:
    """One browser for the tests of this folder that follow one another."""
    return _started()[0]


@pytest.fixture(scope="session")
def port() -> Iterator[socket.socket]:
    """One port for all servers of a process: a browser keeps compiled scripts by their address."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


@pytest.fixture
def address(service: Service, port: socket.socket) -> Iterator[str]:
    """The application on loopback."""
    with listening(make_app(service), at=port) as found:
        yield found


@contextmanager
def _new_page(address: str) -> Iterator[Page]:
    """A tab without anything stored. Afterwards: no script failed, and nothing was asked of another host."""
    context = _started()[1]
    page = context.new_page()
    page.set_default_timeout(20_000)
    stored = {"origin": address, "storageTypes": "cookies,local_storage,indexeddb,cache_storage,service_workers"}
    context.new_cdp_session(page).send("Storage.clearDataForOrigin", stored)
    problems, asked = list[str](), set[str]()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if _is_problem(said) else None)
    page.on("request", lambda each: asked.add(each.url))
    try:
        yield page
        assert problems == []
        assert {each for each in asked if not each.startswith(f"{address}/")} == set()
    finally:
        page.close()


@pytest.fixture
def tab(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, opened in a tab of its own.

    ``tab`` takes options of a tab by indirect parametrisation: a viewport, or media such as a colour scheme.
    """
    media = dict(getattr(request, "param", {}))
    with _new_page(address) as page:
        page.set_viewport_size(media.pop("viewport", WIDE))
        page.emulate_media(reduced_motion="reduce", **media)
        page.goto(f"{address}/")
        page.locator("#about:not(:empty), #empty:not([hidden])").first.wait_for(state="attached")
        yield page


@pytest.fixture(scope="module")
def functions() -> Iterator[Page]:
    """A tab with none of the page but its files, for functions of its modules that keep and show nothing."""
    app = FastAPI()
    app.include_router(routes.router)
    with listening(app) as address, _new_page(address) as page:
        page.goto(f"{address}/page/words.js")
        yield page


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
