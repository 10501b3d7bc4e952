"""The page as a browser draws it: the colours are where the mixture says, and a hostile passage runs nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import lxml.html
import numpy as np
import numpy.typing as npt
from PIL import Image

from browsers import BROWSER, needs_browser
from explained import EITHER, FIRST, SECOND, WRITES_FIRST, WRITES_SECOND, explained
from mixrag.answers.explanation_html import explanation_page

pytestmark = needs_browser

ORANGE, SKY_BLUE = (0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)
"""Colours of passages 1 and 2."""
HOSTILE = """</blockquote></style><script>document.body.innerHTML = "<h1>taken over</h1>"</script>
<img src="x" onerror="document.body.innerHTML = '<h1>taken over</h1>'">"""


def browse(page: str, folder: Path, *wanted: str) -> str:
    """What a headless browser prints for a page; it keeps its files in ``folder`` and reaches no network."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    plain = ["--hide-scrollbars", "--force-device-scale-factor=1", "--force-color-profile=srgb"]
    offline = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options = [*quiet, *plain, *offline, f"--user-data-dir={folder / 'profile'}", "--window-size=1000,1400"]
    line = [BROWSER, *options, *wanted, file.as_uri()]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stdout


def drawn(page: str, folder: Path) -> npt.NDArray[np.uint8]:
    """(height, width, 3) pixels of the page's top."""
    browse(page, folder, f"--screenshot={folder / 'page.png'}")
    with Image.open(folder / "page.png") as picture:
        return np.asarray(picture.convert("RGB"))


def rendered(page: str, folder: Path) -> Any:
    """The document as the browser holds it, once scripts had their chance."""
    return lxml.html.document_fromstring(browse(page, folder, "--dump-dom"))


def box(pixels: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the uppermost patch of exactly this colour: words of the answer."""
    here = (pixels == colour).all(-1)
    rows = here.any(1)
    top = int(rows.argmax())
    bottom = top + int((~rows[top:]).argmax())
    columns = np.flatnonzero(here[top:bottom].any(0))
    return int(columns[0]), top, int(columns[-1]), bottom


def test_the_answers_words_stand_in_the_colours_of_their_passages(tmp_path: Path) -> None:
    pixels = drawn(explanation_page(explained()), tmp_path)
    first, second = box(pixels, ORANGE), box(pixels, SKY_BLUE)
    assert first[1] == second[1] and first[3] == second[3], "on one line"
    assert first[2] < second[0], "the words that passage 1 wrote come first"
    for left, top, right, bottom in (first, second):
        patch = pixels[top:bottom, left : right + 1]
        assert right - left > 60 and bottom - top > 20
        black = (patch == 0).all(-1)
        assert 0.02 < black.mean() < 0.4, "words in black ink on it"


def test_the_order_of_colours_is_that_of_the_mixture(tmp_path: Path) -> None:
    """The same texts, written the other way round."""
    why = explained(likelihoods=(WRITES_SECOND, WRITES_FIRST))
    pixels = drawn(explanation_page(why), tmp_path)
    assert box(pixels, SKY_BLUE)[2] < box(pixels, ORANGE)[0]


def test_who_wrote_all_of_it_has_all_of_it(tmp_path: Path) -> None:
    """At switch 0 one passage writes the whole answer: the other's colour comes only below."""
    why = explained(likelihoods=((0.9,) * 5, EITHER), switch=0.0)
    pixels = drawn(explanation_page(why), tmp_path)
    first, second = box(pixels, ORANGE), box(pixels, SKY_BLUE)
    assert second[1] > first[3] and first[2] - first[0] > 150
    bars = (pixels[second[1] :] == ORANGE).all(-1).sum(), (pixels[second[1] :] == SKY_BLUE).all(-1).sum()
    assert bars[0] > 0 and bars[1] > 0


def test_what_a_reader_sees_is_what_the_mixture_says(tmp_path: Path) -> None:
    why = explained()
    found = rendered(explanation_page(why), tmp_path)
    text = " ".join(found.text_content().split())
    for part in (f"p(answer) = {why.answer.probability:.4f}", "Exact: no passage was left out.", FIRST, SECOND):
        assert part in text
    assert [run.text_content() for run in found.find_class("run")] == ["nine crowns1", "every winter2"]
    assert [mark.text_content() for mark in found.iter("mark")] == ["nine crowns", "every winter"]


def test_a_script_in_a_passage_does_not_run(tmp_path: Path) -> None:
    page = explanation_page(explained((HOSTILE + FIRST, SECOND), question=HOSTILE))
    found = rendered(page, tmp_path)
    assert "taken over" not in [h1.text_content() for h1 in found.iter("h1")]
    assert HOSTILE in found.text_content() and len(list(found.iter("article"))) == 2
    # The same words do run where nobody escapes them, so this browser would show it ...
    unescaped = f"<!DOCTYPE html><body><blockquote>{HOSTILE}</blockquote></body>"
    assert [h1.text_content() for h1 in rendered(unescaped, tmp_path).iter("h1")] == ["taken over"]
    # ... and even unescaped not under the page's policy.
    (policy,) = lxml.html.document_fromstring(page).xpath("//meta[@http-equiv]")
    guarded = unescaped.replace("<body>", lxml.html.tostring(policy, encoding="unicode") + "<body>")
    assert [h1.text_content() for h1 in rendered(guarded, tmp_path).iter("h1")] == []
