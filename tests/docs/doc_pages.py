"""The pages of the documentation: their text, links, anchors and fenced blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        ROOT / "demo/README.md",
        ROOT / "src/mixrag/readers/language_model/README.md",
    ]
)

_FENCE = re.compile(
    r"(?:^<!-- no-run: ([^\n]+) -->\n)?^( *)(`{3,})([^\n`]*)\n(.*?)^\2\3 *$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    info: str
    """What stands behind the backticks, such as "python"."""
    text: str
    line: int
    """Line of the page on which ``text`` begins."""
    no_run: str | None
    """Why it does not run as a test: the comment ``<!-- no-run: needs a GPU -->`` on the line before."""


def named(page: Path) -> str:
    """The page as tests show it."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[4].strip(), found[5], text.count("\n", 0, found.start(5)) + 1, found[1])
        for found in _FENCE.finditer(text)
    ]


def links(page: Path) -> Iterator[str]:
    """The targets of links and images, those inside code left out."""
    yield from _LINK.findall(re.sub(r"`[^`\n]*`", "", _prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as the site makes them."""
    return {site_anchor(heading) for heading in headings(page)}


def headings(page: Path) -> list[str]:
    """The headings, as plain text."""
    return [_plain(heading) for heading in _HEADING.findall(_prose(page))]


def site_anchor(heading: str) -> str:
    """The anchor that Python-Markdown gives a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def hub_anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading: as ``site_anchor``, but each space is a hyphen."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _plain(heading: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
