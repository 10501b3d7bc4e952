"""Text of an OpenDocument paragraph, and what its styles say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mixrag.corpus.parsers.office.package import local
from mixrag.corpus.parsers.office.tally import Tally
from mixrag.corpus.parsers.raised import subscript, superscript

_NAMES = "urn:oasis:names:tc:opendocument:xmlns:"
OFFICE, TEXT, TABLE, DRAW, STYLE, FO, PRESENTATION = (
    f"{{{_NAMES}{name}}}"
    for name in (
        "office:1.0",
        "text:1.0",
        "table:1.0",
        "drawing:1.0",
        "style:1.0",
        "xsl-fo-compatible:1.0",
        "presentation:1.0",
    )
)
SVG = f"{{{_NAMES}svg-compatible:1.0}}"
_DEEPEST = 150
_DEEPEST_STYLE = 20
_MOST_SPACES = 200
_SKIPPED = frozenset(
    {"tracked-changes", "sequence-decls", "forms", "event-listeners", "note-citation", "variable-decls"}
)


@dataclass(frozen=True, slots=True)
class OdfStyle:
    """A style of text with what it inherits; None where nothing is said."""

    script: str | None = None
    hidden: bool | None = None
    bold: bool | None = None
    outline: int | None = None
    title: bool = False


@dataclass
class Content:
    """What a paragraph holds."""

    parts: list[str] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    notes: list[tuple[str, Any]] = field(default_factory=list)
    plain: bool = False

    @property
    def text(self) -> str:
        """The text."""
        return "".join(self.parts)

    @property
    def last(self) -> str:
        """The last piece of the text."""
        return self.parts[-1] if self.parts else ""

    def add(self, text: str) -> None:
        """Add text."""
        if text:
            self.parts.append(text)


class OdfStyles:
    """Styles by their name."""

    def __init__(self) -> None:
        self._elements: dict[str, Any] = {}
        self._found: dict[str, OdfStyle] = {}

    def add(self, root: Any | None) -> None:
        """Learn all styles below an element."""
        for each in () if root is None else root.iter(f"{STYLE}style"):
            self.learn(each)

    def learn(self, element: Any) -> None:
        """Learn one style."""
        self._elements[element.get(f"{STYLE}name", "")] = element

    def element(self, name: str | None) -> Any | None:
        """The element of a style."""
        return self._elements.get(name or "")

    def get(self, name: str | None, depth: int = 0) -> OdfStyle:
        """A style; an empty one where it is not defined."""
        element = self._elements.get(name or "")
        if element is None or depth > _DEEPEST_STYLE:
            return OdfStyle(title=name == "Title")
        if name not in self._found:
            self._found[str(name)] = self._resolve(element, depth)
        return self._found[str(name)]

    def _resolve(self, element: Any, depth: int) -> OdfStyle:
        parent = self.get(element.get(f"{STYLE}parent-style-name"), depth + 1)
        text = element.find(f"{STYLE}text-properties")
        position = hidden = weight = None
        if text is not None:
            position = text.get(f"{STYLE}text-position")
            hidden, weight = text.get(f"{TEXT}display"), text.get(f"{FO}font-weight")
        level = element.get(f"{STYLE}default-outline-level") or ""
        return OdfStyle(
            script=_script(position) if position else parent.script,
            hidden=parent.hidden if hidden is None else hidden == "none",
            bold=parent.bold if weight is None else weight == "bold" or weight in ("600", "700", "800", "900"),
            outline=int(level) if level.isdigit() and len(level) < 3 else parent.outline,
            title=element.get(f"{STYLE}name") == "Title" or parent.title,
        )


def _script(position: str) -> str:
    first = position.split()[0] if position.split() else "0%"
    if first in ("super", "sub"):
        return first
    return "" if first in ("0%", "0") else ("sub" if first.startswith("-") else "super")


class OdfReader:
    """Reads paragraphs of one document."""

    def __init__(self, styles: OdfStyles, tally: Tally) -> None:
        self.styles, self.tally = styles, tally

    def read(self, element: Any) -> Content:
        """The content of a ``p`` or ``h`` element."""
        content = Content()
        style = self.styles.get(element.get(f"{TEXT}style-name"))
        if style.hidden:
            self._hidden(element)
        else:
            self._walk(element, content, "", bool(style.bold), 0)
        return content

    def _hidden(self, element: Any) -> None:
        if "".join(element.itertext()).strip():
            self.tally.add("hidden text", detail="hidden text was left out")

    def _walk(self, element: Any, into: Content, script: str, bold: bool, depth: int) -> None:
        self._add(into, element.text, script, bold)
        for each in element:
            if depth > _DEEPEST:
                self._add(into, "".join(each.itertext()), script, bold)
            elif isinstance(each.tag, str):
                self._child(each, into, script, bold, depth + 1)
            self._add(into, each.tail, script, bold)

    def _add(self, into: Content, text: str | None, script: str, bold: bool) -> None:
        if not text:
            return
        # Line ends and runs of spaces in the markup mean one space; others have elements of their own.
        inner = " ".join(text.split())
        text = f"{' ' if text[0].isspace() else ''}{inner}{' ' if inner and text[-1].isspace() else ''}"
        into.plain |= bool(inner) and not bold
        if script and inner:
            text = superscript(text, into.last) if script == "super" else subscript(text, into.last)
        into.add(text[1:] if text.startswith(" ") and (not into.last or into.last[-1:].isspace()) else text)

    def _child(self, each: Any, into: Content, script: str, bold: bool, depth: int) -> None:
        kind = local(each)
        if kind == "span":
            style = self.styles.get(each.get(f"{TEXT}style-name"))
            if style.hidden:
                self._hidden(each)
                return
            inner = script if style.script is None else style.script
            self._walk(each, into, inner, bold if style.bold is None else style.bold, depth)
        elif kind == "s":
            given = each.get(f"{TEXT}c", "1")
            into.add(" " * (min(int(given), _MOST_SPACES) if given.isdigit() and len(given) < 6 else 1))
        elif kind in ("tab", "line-break"):
            into.add("\t" if kind == "tab" else "\n")
        elif kind == "note":
            self._note(each, into)
        elif kind == "annotation":
            self.tally.add("comments")
        elif each.tag.startswith(DRAW):
            self.drawing(each, into)
        elif kind in ("hidden-text", "hidden-paragraph") and each.get(f"{TEXT}is-hidden") == "true":
            self._hidden(each)
        elif kind == "ruby-text":
            into.add(f"({''.join(each.itertext())})")
        elif kind not in _SKIPPED:
            self._walk(each, into, script, bold, depth)

    def _note(self, note: Any, into: Content) -> None:
        citation, body = note.find(f"{TEXT}note-citation"), note.find(f"{TEXT}note-body")
        mark = "" if citation is None else "".join(citation.itertext()).strip()
        if body is not None:
            into.add(f"[{mark}]" if mark else "")
            into.notes.append((mark, body))

    def drawing(self, element: Any, into: Content) -> None:
        """A frame or shape: text boxes go to ``into.boxes``, descriptions of pictures into its text."""
        waiting = [element]
        while waiting:
            each = waiting.pop()
            kind = local(each)
            if kind == "text-box" or (each.tag.startswith(DRAW) and each.find(f"{TEXT}p") is not None):
                into.boxes.append(each)
                continue
            if kind == "image":
                self.tally.add("images", detail="images were left out but for their descriptions")
            elif kind in ("object", "object-ole"):
                self.tally.add("embedded objects")
            elif kind == "desc" and each.tag.startswith(SVG) and (text := " ".join((each.text or "").split())):
                into.add(f" [image: {text}] ")
            elif kind == "table" and each.tag.startswith(TABLE):
                into.boxes.append(each)
                continue
            waiting += reversed(each)
