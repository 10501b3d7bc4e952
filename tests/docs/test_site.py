"""The site builds without a warning and asks no other host for anything."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import DOCS, ROOT

_LOADED = re.compile(
    r"""<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)"""
)
_CANONICAL = re.compile(r"""<link rel="canonical"[^>]*>""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert config.count("paths: [src]") == 1
    (folder / "mkdocs.yml").write_text(
        config.replace("paths: [src]", f"paths: [{ROOT / 'src'}]"), encoding="utf-8"
    )
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "build/site"


@pytest.mark.slow
def test_every_page_is_built(site: Path) -> None:
    expected = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert expected <= {page.relative_to(site) for page in site.rglob("*.html")}


@pytest.mark.slow
def test_nothing_is_loaded_from_other_hosts(site: Path) -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert {
        name: found for name, text in pages.items() if (found := _LOADED.findall(_CANONICAL.sub("", text)))
    } == {}
    styles = "".join(sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//[^)]+|@import[^;]+//[^;]+", styles) == []


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    import mixrag

    text = (site / "reference/api.html").read_text(encoding="utf-8")
    missing = [name for name in mixrag.__all__ if not re.search(rf'id="mixrag\.[\w.]*\b{name}"', text)]
    assert missing == []


def test_foreign_hosts_would_be_found() -> None:
    assert _LOADED.findall('<script src="https://cdn.example/x.js">') == ["https://cdn.example/x.js"]
    assert _LOADED.findall('<link rel="stylesheet" href="//fonts.example/css">') == ["//fonts.example/css"]
    assert _LOADED.findall('<a href="https://example.org">') == []
