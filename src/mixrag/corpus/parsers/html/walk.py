"""From the tree of a page to blocks: what is a paragraph, a heading, a list, a table, and what is not shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.html.blocks import Frame, write_blocks
from mixrag.corpus.parsers.html.table import Table
from mixrag.corpus.parsers.raised import note_mark, subscript, superscript
from mixrag.corpus.parsers.result import Notice
from mixrag.corpus.parsers.titles import useful_title

_DROPPED = frozenset(
    (
        "head",
        "script",
        "style",
        "template",
        "svg",
        "iframe",
        "object",
        "embed",
        "audio",
        "video",
        "datalist",
        "noframes",
        "noembed",
        "rp",
        "map",
    )
)
_BLOCKS = frozenset(
    (
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dialog",
        "div",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "main",
        "p",
        "search",
        "section",
        "noscript",
        "frameset",
        "colgroup",
        "col",
    )
)
_APART = frozenset(("button", "label", "textarea", "output", "meter", "progress", "summary"))
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse))", re.IGNORECASE)
_BLOCK_STYLE = re.compile(r"display\s*:\s*(?:block|flex|grid|table|list-item)\b", re.IGNORECASE)
_BOLD_STYLE = re.compile(r"font-weight\s*:\s*(?:bold|[6-9]00)", re.IGNORECASE)
_NO_TEXT_INPUTS = frozenset(
    ("hidden", "password", "checkbox", "radio", "submit", "reset", "button", "image", "file", "color", "range")
)
_NOTE = re.compile(r"reference|footnote|fn|noteref", re.IGNORECASE)

Leave = Callable[[], None]


def _nothing() -> None:
    pass


class PageReader:
    """Walks a tree once, without recursion, and gathers the blocks of the page."""

    def __init__(self) -> None:
        self.title = ""
        self.first_heading = ""
        """Of level 1 to 3."""
        self.first_top_heading = ""
        """Of level 1."""
        self._hidden = 0
        self._navigation = 0
        self._frames = [Frame(bold_headings=True)]
        self._tables: list[Table] = []
        self._enter: dict[str, Callable[[Any, dict[str, str | None]], Leave | None]] = {
            **dict.fromkeys(_HEADINGS, self._heading),
            **dict.fromkeys(("ul", "ol", "menu", "dir"), self._list),
            **dict.fromkeys(("pre", "xmp", "listing", "plaintext"), self._pre),
            **dict.fromkeys(("th", "td"), self._cell),
            **dict.fromkeys(("b", "strong"), self._bold),
            **dict.fromkeys(("s", "del", "strike"), self._struck),
            **dict.fromkeys(_APART, self._apart),
            **dict.fromkeys(_BLOCKS, self._block),
            "li": self._item,
            "dl": self._block,
            "dt": self._term,
            "dd": self._definition,
            "details": self._block,
            "summary": self._block,
            "table": self._table,
            "caption": self._caption,
            "thead": self._head_rows,
            "tr": self._row,
            "select": self._select,
            "option": self._option,
            "br": self._line_break,
            "img": self._image,
            "input": self._input,
            "sup": self._sup,
            "sub": self._sub,
            "rt": self._ruby,
            "q": self._quote,
            "math": self._math,
            "nav": self._nav,
        }

    @property
    def frame(self) -> Frame:
        return self._frames[-1]

    def read(self, root: Any) -> None:
        """Read everything below an element."""
        head = root.css_first("head > title")
        self.title = (head.text(deep=True) or "") if head is not None else ""
        open_: list[tuple[Any, Leave]] = []
        node = root.first_child
        while node is not None:
            if node.is_text_node:
                self.frame.text(node.text_content or "")
            elif (leave := self._enter_node(node)) is not None:
                child = node.first_child
                if child is not None:
                    open_.append((node, leave))
                    node = child
                    continue
                leave()
            following = node.next
            while following is None and open_:
                node, leave = open_.pop()
                leave()
                following = node.next
            node = following

    def write(self, builder: DocumentBuilder) -> None:
        """Pass on what was read."""
        write_blocks(self._frames[0].finished(), builder)

    def notices(self) -> tuple[Notice, ...]:
        """What was left out, counted."""
        counts = {"hidden elements": self._hidden, "navigation blocks": self._navigation}
        return tuple(Notice(kind, count) for kind, count in counts.items() if count)

    def _enter_node(self, node: Any) -> Leave | None:
        """What to do after the children of a node; None leaves them out."""
        if not node.is_element_node or (tag := node.tag) in _DROPPED:
            return None
        attributes = node.attributes
        if attributes and self._is_hidden(node, attributes):
            return None
        if enter := self._enter.get(tag):
            return enter(node, attributes)
        style = attributes.get("style") or ""
        if style and _BLOCK_STYLE.search(style):
            return self._block(node, attributes)
        if style and _BOLD_STYLE.search(style):
            return self._bold(node, attributes)
        return _nothing

    def _is_hidden(self, node: Any, attributes: dict[str, str | None]) -> bool:
        hidden = "hidden" in attributes and (attributes["hidden"] or "").lower() != "until-found"
        style = attributes.get("style")
        hidden = hidden or bool(style and _HIDDEN.search(style))
        # The rendering that KaTeX puts beside its formula: the same characters again, without structure.
        twin = "aria-hidden" in attributes and "katex-html" in (attributes.get("class") or "")
        if hidden and (node.text(deep=True) or "").strip():
            self._hidden += 1
        return hidden or twin

    def _block(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        frame = self.frame
        frame.boundary()
        style = attributes.get("style")
        if not style or not _BOLD_STYLE.search(style):
            return frame.boundary
        frame.bold += 1

        def leave() -> None:
            frame.boundary()
            frame.bold -= 1

        return leave

    def _apart(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        self.frame.text(" ")
        return lambda: self.frame.text(" ")

    def _heading(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        level = _HEADINGS[node.tag]
        frame = self.frame
        frame.open_line("heading", level)

        def leave() -> None:
            text = frame.close_line("heading")
            if level <= 3:
                self.first_heading = self.first_heading or text
            if level == 1:
                self.first_top_heading = self.first_top_heading or text

        return leave

    def _bold(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        frame = self.frame
        frame.bold += 1

        def leave() -> None:
            frame.bold -= 1

        return leave

    def _list(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        start = attributes.get("start") or ""
        number = int(start) if re.fullmatch(r"-?\d{1,6}", start) else 1
        self.frame.open_list(number if node.tag == "ol" else None)
        return self.frame.close_list

    def _item(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        value = attributes.get("value") or ""
        frame = self.frame
        frame.open_item(int(value) if re.fullmatch(r"-?\d{1,6}", value) else None)
        return lambda: void(frame.close_line("item"))

    def _term(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        frame = self.frame
        frame.open_line("term")
        return lambda: void(frame.close_line("term"))

    def _definition(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        frame = self.frame
        frame.open_line("definition")
        return lambda: void(frame.close_line("definition"))

    def _select(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        self.frame.open_list(None)
        return self.frame.close_list

    def _option(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        frame = self.frame
        frame.open_item(None)
        return lambda: void(frame.close_line("item"))

    def _pre(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        frame = self.frame
        frame.open_pre()
        return frame.close_pre

    def _table(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        self.frame.flush()
        layout = (attributes.get("role") or "").lower() in {"presentation", "none"}
        table = Table(layout=layout)
        self._tables.append(table)

        def leave() -> None:
            self._tables.pop()
            self.frame.add(*table.blocks())

        return leave

    def _caption(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        if not self._tables:
            return self._block(node, attributes)
        frame = Frame()
        self._frames.append(frame)

        def leave() -> None:
            self._frames.pop()
            self._tables[-1].caption = frame.plain()

        return leave

    def _head_rows(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        if not self._tables:
            return _nothing
        table = self._tables[-1]
        table.in_head = True

        def leave() -> None:
            table.in_head = False

        return leave

    def _row(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        if self._tables:
            self._tables[-1].open_row()
        return _nothing

    def _cell(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        if not self._tables:
            return self._block(node, attributes)
        table, frame = self._tables[-1], Frame()
        spans = [_span(attributes.get(name)) for name in ("colspan", "rowspan")]
        header = node.tag == "th"
        self._frames.append(frame)

        def leave() -> None:
            self._frames.pop()
            table.add_cell(frame.finished(), header, *spans)

        return leave

    def _line_break(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        self.frame.line_break()
        return _nothing

    def _image(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        if text := useful_title(attributes.get("alt") or ""):
            self.frame.text(f" {text} ")
        return _nothing

    def _input(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        if (attributes.get("type") or "text").lower() not in _NO_TEXT_INPUTS and attributes.get("value"):
            self.frame.text(f" {attributes['value']} ")
        return _nothing

    def _sup(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        marks = f"{attributes.get('class') or ''} {attributes.get('role') or ''}"
        note = bool(_NOTE.search(marks)) or node.css_first("a[href]") is not None
        return self.frame.replaced(lambda text, before: note_mark(text) if note else superscript(text, before))

    def _sub(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        return self.frame.replaced(subscript)

    def _ruby(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        return self.frame.replaced(lambda text, before: f"({text.strip()})" if text.strip() else "")

    def _quote(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        return self.frame.replaced(lambda text, before: f"“{text}”")

    def _struck(self, node: Any, attributes: dict[str, str | None]) -> Leave:
        return self.frame.replaced(lambda text, before: f"~~{text.strip()}~~ " if text.strip() else text)

    def _math(self, node: Any, attributes: dict[str, str | None]) -> Leave | None:
        source = node.css_first("annotation")
        text = (source.text(deep=True) if source is not None else "") or attributes.get("alttext") or ""
        self.frame.text(f" {text or _formula(node)} ")
        return None

    def _nav(self, node: Any, attributes: dict[str, str | None]) -> None:
        if (node.text(deep=True) or "").strip():
            self._navigation += 1


def void(_: object) -> None:
    """Nothing, of whatever a call returned."""


def _span(value: str | None) -> int:
    digits = re.match(r"\s*(\d{1,5})", value or "")
    return max(1, min(int(digits[1]), 1000)) if digits else 1


def _formula(node: Any) -> str:
    """MathML without a source: its text, with ^ _ and / where the layout says them."""
    between = {"msup": "^", "msub": "_", "mfrac": "/", "mover": "^", "munder": "_"}
    parts: list[str] = []
    for each in node.traverse(include_text=True):
        if each.is_text_node:
            parts.append((each.text_content or "").strip())
        elif each.prev is not None and each.parent is not None and each.parent.tag in between:
            parts.append(between[each.parent.tag])
    return "".join(parts)
