"""XML files: headings, paragraphs and fields in the order of the text, whatever the vocabulary."""

from __future__ import annotations

import html
import html.entities
import re
from typing import Any
from xml.sax.saxutils import escape

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.encoding import decode_text, xml_encoding
from mixrag.corpus.parsers.html.page import read_html, read_page
from mixrag.corpus.parsers.raised import subscript, superscript
from mixrag.corpus.parsers.result import OTHER_FORMAT, Notice, ParseResult, UnreadableError
from mixrag.corpus.parsers.safe_xml import xml_parser
from mixrag.corpus.parsers.titles import useful_title
from mixrag.utils.extras import require

_XHTML = "http://www.w3.org/1999/xhtml"
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_HEADINGS = frozenset(("title", "head", "heading", "headline", "header", "subtitle"))
_PROSE = frozenset(
    (
        "p",
        "para",
        "simpara",
        "paragraph",
        "text",
        "abstract",
        "summary",
        "description",
        "body",
        "content",
        "note",
        "l",
        "ab",
    )
)
_BLOCKS = frozenset(
    (
        "section",
        "sect1",
        "sect2",
        "sect3",
        "chapter",
        "sec",
        "div",
        "table",
        "list",
        "item",
        "entry",
        "row",
        "record",
    )
)
_DOCTYPE = re.compile(r"<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(r"</\w+>|<(?:br|p|hr)\b[^>]*>", re.IGNORECASE)
_RAISED = {"sup": superscript, "superscript": superscript, "sub": subscript, "subscript": subscript}
_LONGEST_FIELD = 200
_ENTITY = re.compile(r"<!\[CDATA\[.*?\]\]>|&(?!#|(?:amp|lt|gt|quot|apos);)([\w.:-]+);", re.DOTALL)
_DECLARED = re.compile(r"""<!ENTITY\s+([\w.:-]+)\s+["']([^"'&%<]{1,100})["']\s*>""")


def read_xml(data: bytes, name: str) -> ParseResult:
    """One document: titles become headings, prose paragraphs, short elements and attributes lines "name: value".

    Entities that the file declares are not expanded, external ones not read. XHTML is read as a page.

    Raises:
        UnreadableError: binary data, or no text.
    """
    text, notices = decode_text(data, xml_encoding(data))
    etree = require("lxml.etree", "files", "XML")
    parser = xml_parser(etree, recover=True)
    source, unknown = _without_entities(_DECLARATION.sub("", text))
    try:
        root = etree.fromstring(source.encode(), parser)
    except etree.XMLSyntaxError:  # nothing that it could recover
        root = None
    if root is None:
        return _as_text(_DOCTYPE.sub("", _DECLARATION.sub("", text)), notices)
    if root.tag == f"{{{_XHTML}}}html":
        return read_html(data, name)
    walk = _Walk(etree)
    walk.read(root)
    if errors := [each for each in parser.error_log if each.level_name != "WARNING"]:
        detail = f"first in line {errors[0].line}: {errors[0].message}"
        notices = (*notices, Notice("XML errors", len(errors), " ".join(detail.split())))
    if unknown:
        notices = (*notices, Notice("entities not expanded", unknown, "their names stand in the text"))
    document = walk.builder.document(useful_title(walk.title))
    if not document.text.strip():
        raise UnreadableError("a file with text", "no extractable text", "leave it out")
    return ParseResult((document,), (), notices)


def _without_entities(text: str) -> tuple[str, int]:
    """The file without its document type, so that no entity can grow, and how many are left with their names.

    Short ones without others in them, and the names that HTML knows, are replaced by their characters.
    """
    unknown = 0
    found = _DOCTYPE.search(text)
    declared = dict(_DECLARED.findall(found[0])) if found else {}

    def replaced(match: re.Match[str]) -> str:
        nonlocal unknown
        if not (name := match[1]):
            return match[0]  # a CDATA section
        value = declared.get(name) or html.entities.html5.get(f"{name};")
        unknown += value is None
        return f"&amp;{name};" if value is None else escape(value)

    return _ENTITY.sub(replaced, _DOCTYPE.sub("", text, count=1)), unknown


def _as_text(text: str, notices: tuple[Notice, ...]) -> ParseResult:
    builder = DocumentBuilder()
    builder.paragraph(text)
    document = builder.document()
    if not document.text.strip():
        raise UnreadableError("a file with text", "no extractable text", "leave it out")
    return ParseResult((document,), (), (*notices, Notice(OTHER_FORMAT, 1, "no XML; read as text")))


class _Walk:
    """Writes the elements below a root, without recursion."""

    def __init__(self, etree: Any) -> None:
        self.builder = DocumentBuilder()
        self.title = ""
        self._etree = etree
        self._fields: list[str] = []

    def read(self, root: Any) -> None:
        """Everything in the order of the text."""
        depth, skip = 0, None
        for event, element in self._etree.iterwalk(root, events=("start", "end")):
            if event == "start":
                depth += 1
                if skip is None and self._take(element, depth):
                    skip = element
                continue
            depth -= 1
            if skip is element:
                skip = None
            elif skip is None:
                self._flush()
            if skip is None and element is not root:
                self._loose(element.tail)
        self._flush()

    def _take(self, element: Any, depth: int) -> bool:
        """Write an element; True where all below it has been written with it."""
        name = _local(element.tag)
        attributes = _attributes(element)
        if len(element) and not self._is_mixed(element):
            self._flush()
            if attributes:
                self._fields.append(" | ".join([name, *attributes]))
            self._loose(element.text)
            return False
        text = self._text(element)
        if not text.strip():
            if attributes:
                self._fields.append(" | ".join([name, *attributes]))
        elif name.lower() in _HEADINGS:
            self._heading(" ".join(text.split()), depth)
        elif _MARKUP.search(text):
            self._flush()
            read_page(text, self.builder)
        elif name.lower() in _PROSE or len(text) > _LONGEST_FIELD:
            self._flush()
            self.builder.paragraph("\n".join(line.strip() for line in text.splitlines()))
        else:
            shown = f"{name} ({', '.join(attributes)})" if attributes else name
            self._fields.append(f"{shown}: {' '.join(text.split())}")
        return True

    def _loose(self, text: str | None) -> None:
        """Text between the elements of a container."""
        if text and text.strip():
            self._flush()
            self.builder.paragraph(text)

    def _heading(self, text: str, depth: int) -> None:
        self._flush()
        self.title = self.title or text
        self.builder.heading(text, min(6, max(1, depth - 1)))

    def _is_mixed(self, element: Any) -> bool:
        """Whether the children are words of a paragraph: text stands beside them, and none is a block."""
        texts = [element.text, *(child.tail for child in element)]
        names = {_local(child.tag).lower() for child in element}
        return any(text and text.strip() for text in texts) and not names & (_BLOCKS | _PROSE | _HEADINGS)

    def _text(self, element: Any) -> str:
        """All text in it; children that nothing separates get a space between them."""
        parts: list[str] = []
        for event, each in self._etree.iterwalk(element, events=("start", "end")):
            if event == "end":
                parts.append((each.tail or "") if each is not element else "")
                continue
            previous = each.getprevious() if each is not element else None
            text, before = each.text or "", "".join(parts[-3:])
            name = _local(each.tag).lower()
            if name in _RAISED:
                text = _RAISED[name](text, before)
            elif previous is not None and not previous.tail:
                text = f" {text}"
            parts.append(text)
        return "".join(parts)

    def _flush(self) -> None:
        if self._fields:
            self.builder.items(self._fields)
            self._fields = []


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _attributes(element: Any) -> list[str]:
    """The attributes that say something about the element, each "name: value"."""
    return [f"{_local(key)}: {value}" for key, value in element.attrib.items() if _says_something(key, value)]


def _says_something(key: str, value: str) -> bool:
    space = key.rpartition("}")[0]
    named = space.endswith("XMLSchema-instance") or space.endswith("XML/1998/namespace")
    return not named and len(value) <= 1_000 and any(map(str.isalnum, value))
