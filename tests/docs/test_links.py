"""Links of the documentation lead to files and headings that exist."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_pages import DOCS, PAGES, anchors, headings, hub_anchor, links, named, site_anchor


def problems(page: Path) -> list[str]:
    """What is wrong with the relative links of a page; the network is not asked."""
    found = []
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            found.append(f"{link}: no such file")
        elif DOCS in page.parents and DOCS not in target.parents:
            found.append(f"{link}: outside docs, so not on the site")
        elif anchor and anchor not in anchors(target):
            found.append(f"{link}: no such heading")
        elif anchor and not any(site_anchor(each) == hub_anchor(each) == anchor for each in headings(target)):
            found.append(f"{link}: the site and GitHub name this heading differently")
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    assert problems(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-heading) [b](missing.md) [c](other.md#missing) ![d](missing.png)\n```\n[e](f.md)\n```\n",
        encoding="utf-8",
    )
    assert problems(page) == [
        "missing.md: no such file",
        "other.md#missing: no such heading",
        "missing.png: no such file",
    ]


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [named(page) for page in DOCS.rglob("*.md") if page.relative_to(DOCS).as_posix() not in navigation]
    assert missing == []
