"""Text and title of HTML pages, and the title of a Markdown file.

HTML is read here and not by kreuzberg, whose plain output loses text that stands beside block elements (in
``div``, ``dd``, ``blockquote``); nor by html.parser, which takes quadratic time on broken pages.
"""

from __future__ import annotations

import codecs
import html
import re

from mixrag.corpus.readers import decode

_DROPPED = frozenset(["nav", "template", "noscript", "svg", "iframe", "object", "canvas", "select", "button"])
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "ins",
        "kbd",
        "label",
        "mark",
        "q",
        "rp",
        "rt",
        "ruby",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
    ]
)
_HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])
_LINE_BREAKS = frozenset(["br", "li", "tr", "dt", "dd", "option"])
_CHARSET = re.compile(rb"""<meta[^<>]+charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_FRONT_MATTER_TITLE = re.compile(r"\A---\r?\n(?:(?!---).*\n)*?title:[ \t]*(\S[^\r\n]*)")

# No alternative looks past the next '<' or past a part it then consumes, so that time stays linear.
_MARKUP = re.compile(
    r"""<!--.*?(?:-->|\Z) | <!\[CDATA\[ | \]\]>
    | <(?P<raw>script|style)\b[^<>]*>.*?(?:</(?P=raw)\s*>|\Z)
    | <(?P<end>/?)(?P<tag>[a-z][a-z0-9]*)
        (?: (?:[^<>"']++|"[^"<]*"|'[^'<]*')*+ (?P<empty>(?<=/))?> | [^<>]*> )
    | <[!?][^<>]*>""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


def html_text(data: bytes) -> tuple[str, str]:
    """Readable text and title of an HTML page; navigation, scripts and styles are dropped.

    Raises:
        UnreadableError: the bytes are not text in the charset the page declares (UTF-8 by default).
    """
    page, source, position = _Page(), _decode_html(data), 0
    for match in _MARKUP.finditer(source):
        page.text(source[position : match.start()])
        position = match.end()
        if match["tag"]:
            page.element(match["tag"].lower(), closing=bool(match["end"]), empty=match["empty"] is not None)
    page.text(source[position:])
    return _tidy("".join(page.pieces)), "".join(page.title) or "".join(page.heading)


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


def _tidy(text: str) -> str:
    lines = (line.strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Page:
    """Collects text; block elements are parted by blank lines, cells by tabs, items by line ends."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.title: list[str] = []
        self.heading: list[str] = []
        self._into: list[str] | None = None
        self._dropping, self._depth, self._preformatted = "", 0, 0

    def element(self, tag: str, *, closing: bool, empty: bool) -> None:
        """Take a start or end tag."""
        if self._dropping or (tag in _DROPPED and not closing):
            if not empty:
                self._drop(tag, closing)
            return
        if closing:
            self._into = None if tag == "title" or tag in _HEADINGS else self._into
        elif tag == "title" and not self.title:
            self._into = self.title
        elif tag in _HEADINGS and not self.heading:
            self._into = self.heading
        if tag == "pre":
            self._preformatted = max(0, self._preformatted + (-1 if closing else 1))
        self._part(tag, closing)

    def text(self, source: str) -> None:
        """Take the text between two tags."""
        if self._dropping or not source:
            return
        text = html.unescape(source)
        if self._into is not None:
            self._into.append(text)
        if self._into is not self.title:
            self.pieces.append(text if self._preformatted else re.sub(r"\s+", " ", text))

    def _part(self, tag: str, closing: bool) -> None:
        if tag in {"td", "th"} or tag in _LINE_BREAKS:
            self.pieces.append("" if closing else "\t" if tag in {"td", "th"} else "\n")
        elif tag not in _INLINE:
            self.pieces.append("\n\n")

    def _drop(self, tag: str, closing: bool) -> None:
        """Count nested elements of the dropped kind; one that nobody closed ends with its parent."""
        if not self._dropping:
            self._dropping = tag
        if tag == self._dropping:
            self._depth += -1 if closing else 1
        if self._depth == 0 or tag in {"main", "article", "body"}:
            self._dropping, self._depth = "", 0
