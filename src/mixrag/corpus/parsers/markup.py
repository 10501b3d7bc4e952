"""Text and title of HTML pages, and the title of a Markdown file.

HTML goes through inscriptis (on lxml) and not through kreuzberg, whose plain output loses text next to block
elements (in ``div``, ``dd``, ``blockquote``).
"""

from __future__ import annotations

import codecs
import re
from typing import Any

from mixrag.corpus.parsers.result import decode
from mixrag.utils.extras import require

_DROPPED = (
    "nav",
    "script",
    "style",
    "template",
    "noscript",
    "svg",
    "iframe",
    "object",
    "select",
    "button",
    "title",
)
_CHARSET = re.compile(rb"""<meta[^<>]+charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_FRONT_MATTER_TITLE = re.compile(r"\A---\r?\n(?:(?!---).*\n)*?title:[ \t]*(\S[^\r\n]*)")


def html_text(data: bytes) -> tuple[str, str]:
    """Readable text and title of an HTML page; navigation, scripts and styles are dropped.

    Raises:
        UnreadableError: the bytes are not text in the charset the page declares (UTF-8 by default).
    """
    html = require("lxml.html", "files", "HTML")
    require("inscriptis", "files", "HTML")
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.html_engine import Inscriptis
    from inscriptis.model.config import ParserConfig

    source = _decode_html(data).encode()
    try:
        page = html.document_fromstring(source, parser=html.HTMLParser(encoding="utf-8"))
    except html.etree.ParserError:  # no element at all
        return "", ""
    title = _first_text(page, "title") or _first_text(page, "h1", "h2", "h3")
    for element in list(page.iter(*_DROPPED)):
        element.drop_tree()
    style = CSS_PROFILES["strict"]
    # The profile knows no definition lists: their terms would run into their definitions.
    config = ParserConfig(css={**style, "dt": style["div"], "dd": style["div"]})
    return Inscriptis(page, config).get_text().strip(), title


def markdown_title(text: str) -> str:
    """Title in the front matter, else the first ``# heading`` outside code fences, else empty."""
    if match := _FRONT_MATTER_TITLE.match(text):
        return match[1].strip().strip("\"'")
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and line.startswith("# "):
            return line[2:].strip().rstrip("#").rstrip()
    return ""


def _decode_html(data: bytes) -> str:
    declared = _CHARSET.search(data[:4096])
    if declared and not data.startswith(codecs.BOM_UTF8):
        try:
            return data.decode(declared[1].decode("ascii"))
        except (LookupError, UnicodeError):
            pass
    return decode(data)


def _first_text(page: Any, *tags: str) -> str:
    found = next(page.iter(*tags), None)
    return "" if found is None else " ".join(found.text_content().split())
