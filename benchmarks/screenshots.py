"""Pictures of the page that ``mixrag serve`` shows, for README and documentation.

    python benchmarks/screenshots.py [--store demo/store] [--out docs/pictures]

Serves the store on loopback with the packaged readers, asks in a real browser (chromium, through playwright), and
writes PNG files below 200 kB. Needs the extras ``server`` and ``dev``, and the demo's store (``make
demo``).
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from mixrag import RAG
from mixrag.server.app import make_app
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores

ANSWERED = "Who is the medical director of Brackwater Hospital?"
EXTRACT = "How does the Tidal Account work?"
WITHHELD = "class D fishing licence fee"
FOLLOW_UP = "How many nurses does it employ?"
WIDE, NARROW = (1200, 800), (390, 780)
LARGEST = 200_000


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("demo/store"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with RAG.open(given.store) as rag, sync_playwright() as playwright, served(rag) as address:
        rag.ask(ANSWERED)  # which loads the models
        browser = playwright.chromium.launch(executable_path=browser_path)
        for name, page in pictures(browser, address):
            take(page, given.out / f"{name}.png")
        with TemporaryDirectory() as folder:
            new = RAG.open(Path(folder) / "new", create=True, sharing=rag)
            with new, served(new, "new") as empty:
                take(opened(browser, empty, WIDE), given.out / "page-empty.png")
        browser.close()


def take(page: Page, file: Path) -> None:
    """The picture of a page, and how large its file is."""
    page.screenshot(path=file)
    shrink(file)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB", flush=True)


@contextmanager
def served(rag: RAG, name: str = "demo") -> Iterator[str]:
    """The store at an address of loopback."""
    app = make_app(Service(Stores([Served(name, rag)])))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join()


def pictures(browser: Browser, address: str) -> Iterator[tuple[str, Page]]:
    """Names, and the page as each picture shows it."""
    page = opened(browser, address, WIDE)
    yield "page-start", page
    ask(page, ANSWERED)
    yield "page-answer", page
    page.locator("#answer .reference").first.click()
    expect(page.locator("#reader mark").first).to_be_visible()
    yield "page-document", page
    page.keyboard.press("Escape")
    page.get_by_role("button", name="What would change it?").click()
    expect(page.locator("#changes .finding")).not_to_contain_text("Asking again", timeout=600_000)
    yield "page-change", page
    ask(page, FOLLOW_UP)
    yield "page-follow-up", page
    page = opened(browser, address, WIDE)
    ask(page, EXTRACT)
    yield "page-extract", page
    page = opened(browser, address, WIDE)
    ask(page, WITHHELD)
    yield "page-withheld", page
    page = opened(browser, address, WIDE, dark=True)
    ask(page, ANSWERED)
    yield "page-dark", page
    page = opened(browser, address, NARROW)
    ask(page, ANSWERED)
    yield "page-narrow", page


def opened(browser: Browser, address: str, size: tuple[int, int], *, dark: bool = False) -> Page:
    """The page in a window of its own."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    page.goto(address)
    page.locator("#about:not(:empty), #empty:not([hidden])").first.wait_for(state="attached")
    return page


def ask(page: Page, question: str) -> None:
    """Ask, and wait for the answer."""
    page.get_by_label("Ask your documents").fill(question)
    page.keyboard.press("Enter")
    expect(page.locator("#asked")).to_have_text(question)
    expect(page.locator("#after")).to_be_visible(timeout=600_000)
    page.locator("#question").blur()


def shrink(file: Path) -> None:
    """Write a picture again as small as it goes; with few colours where it is still large."""
    with Image.open(file) as picture:
        whole = picture.convert("RGB")
    whole.save(file, optimize=True)
    if file.stat().st_size > LARGEST:
        whole.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main()
