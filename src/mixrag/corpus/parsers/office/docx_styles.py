"""What the styles and numberings of a DOCX file say about a paragraph: heading, list mark, hidden text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_HEADING = re.compile(r"heading\s?([1-9])", re.IGNORECASE)
_TITLE = re.compile(r"title", re.IGNORECASE)
_CONTENTS = re.compile(r"(?:toc|table of figures)\s?\d*", re.IGNORECASE)
_OFF = frozenset({"0", "false", "off", "none"})
_DEEPEST_STYLE = 20
_LONGEST_MARK = 60


@dataclass(frozen=True, slots=True)
class Style:
    """A style with what it inherits; None where nothing is said."""

    name: str = ""
    outline: int | None = None
    """Level of a heading, from 0; 9 for body text."""
    list_id: str | None = None
    list_level: int | None = None
    hidden: bool | None = None
    script: str | None = None
    bold: bool | None = None

    @property
    def level(self) -> int:
        """Of a heading, from 1; 0 for other text."""
        if match := _HEADING.fullmatch(self.name):
            return int(match[1])
        if _TITLE.fullmatch(self.name):
            return 1
        return self.outline + 1 if self.outline is not None and self.outline < 9 else 0

    @property
    def is_title(self) -> bool:
        """Whether it is the style of the document's title."""
        return bool(_TITLE.fullmatch(self.name))

    @property
    def is_contents(self) -> bool:
        """Whether it is the style of a line in a table of contents."""
        return bool(_CONTENTS.fullmatch(self.name))


def switched(properties: Any, name: str) -> bool | None:
    """Whether a property is on; None where it is not given."""
    found = None if properties is None else properties.find(f"{W}{name}")
    return None if found is None else found.get(f"{W}val", "1").lower() not in _OFF


def value(properties: Any, path: str) -> str | None:
    """Value of a property; None where it is not given."""
    found = None if properties is None else properties.find(path)
    return None if found is None else found.get(f"{W}val")


def number(text: str | None) -> int | None:
    """A whole number of at most nine digits, or None."""
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,9}", text) else None


class Styles:
    """Styles by their id."""

    def __init__(self, root: Any | None) -> None:
        self._found: dict[str, Style] = {}
        self._elements: dict[str, Any] = {}
        self._default = ""
        for each in () if root is None else root.iterfind(f"{W}style"):
            id_ = each.get(f"{W}styleId", "")
            self._elements[id_] = each
            if each.get(f"{W}type") == "paragraph" and each.get(f"{W}default", "0") not in _OFF:
                self._default = id_

    def get(self, id_: str | None) -> Style:
        """A style; of an id that is defined nowhere, the id is its name."""
        id_ = self._default if id_ is None else id_
        if id_ not in self._found:
            self._found[id_] = self._resolve(id_, 0)
        return self._found[id_]

    def first_row(self, id_: str) -> bool:
        """Whether a style of tables, or one that it is based on, sets the first row off."""
        for _ in range(_DEEPEST_STYLE):
            element = self._elements.get(id_)
            if element is None:
                return False
            if any(each.get(f"{W}type") == "firstRow" for each in element.iterfind(f"{W}tblStylePr")):
                return True
            id_ = value(element, f"{W}basedOn") or ""
        return False

    def _resolve(self, id_: str, depth: int) -> Style:
        element = self._elements.get(id_)
        if element is None or depth > _DEEPEST_STYLE:
            return Style(name=id_)
        based = value(element, f"{W}basedOn")
        parent = Style() if based is None or based == id_ else self._resolve(based, depth + 1)
        paragraph, run = element.find(f"{W}pPr"), element.find(f"{W}rPr")
        name = value(element, f"{W}name") or id_
        inherits = parent.level and not parent.is_title
        outline = number(value(paragraph, f"{W}outlineLvl"))
        hidden, bold = switched(run, "vanish"), switched(run, "b")
        return Style(
            name=name,
            outline=outline if outline is not None else (parent.level - 1 if inherits else parent.outline),
            list_id=value(paragraph, f"{W}numPr/{W}numId") or parent.list_id,
            list_level=_first(number(value(paragraph, f"{W}numPr/{W}ilvl")), parent.list_level),
            hidden=parent.hidden if hidden is None else hidden,
            script=value(run, f"{W}vertAlign") or parent.script,
            bold=parent.bold if bold is None else bold,
        )


def _first(given: int | None, other: int | None) -> int | None:
    return other if given is None else given


@dataclass(frozen=True, slots=True)
class _Level:
    form: str = "decimal"
    text: str = ""
    start: int = 1
    restart: int | None = None


@dataclass
class _List:
    levels: dict[int, _Level] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """Marks of list items and numbered headings, counted in the order of the paragraphs."""

    def __init__(self, root: Any | None) -> None:
        self._lists: dict[str, _List] = {}
        self._overrides: dict[str, dict[int, int]] = {}
        self._begun: set[str] = set()
        if root is None:
            return
        abstract = {each.get(f"{W}abstractNumId"): _read_list(each) for each in root.iterfind(f"{W}abstractNum")}
        for each in root.iterfind(f"{W}num"):
            id_ = each.get(f"{W}numId", "")
            self._lists[id_] = abstract.get(value(each, f"{W}abstractNumId") or "") or _List()
            starts = {
                number(over.get(f"{W}ilvl")) or 0: start
                for over in each.iterfind(f"{W}lvlOverride")
                if (start := number(value(over, f"{W}startOverride"))) is not None
            }
            self._overrides[id_] = starts

    def mark(self, list_id: str, level: int) -> str:
        """The mark of the next item: "1.2", "a)", "-"; empty where the list has none."""
        found = self._lists.get(list_id)
        if found is None:
            return "-"
        if list_id not in self._begun:
            self._begun.add(list_id)
            for at, start in self._overrides[list_id].items():
                found.counts[at] = start - 1
        form = found.levels.get(level, _Level("bullet"))
        found.counts[level] = found.counts.get(level, form.start - 1) + 1
        for deeper in [each for each in found.counts if each > level]:
            del found.counts[deeper]
        if form.form in ("bullet", "none"):
            return "-" if form.form == "bullet" else ""
        return re.sub(r"%([1-9])", lambda match: self._count(found, int(match[1]) - 1), form.text).strip()

    @staticmethod
    def _count(found: _List, level: int) -> str:
        form = found.levels.get(level, _Level())
        return numeral(found.counts.get(level, form.start), form.form)


def _read_list(element: Any) -> _List:
    levels: dict[int, _Level] = {}
    for each in element.iterfind(f"{W}lvl"):
        start = number(value(each, f"{W}start"))
        form, text = value(each, f"{W}numFmt") or "decimal", (value(each, f"{W}lvlText") or "")[:_LONGEST_MARK]
        levels[number(each.get(f"{W}ilvl")) or 0] = _Level(form, text, 1 if start is None else start)
    return _List(levels)


def numeral(count: int, form: str) -> str:
    """A count as a list writes it: 3, iii, C.

    >>> numeral(4, "lowerRoman"), numeral(28, "upperLetter"), numeral(7, "decimalZero")
    ('iv', 'BB', '07')
    """
    if form in ("lowerLetter", "upperLetter") and count > 0:
        letter = chr(ord("a") + (count - 1) % 26) * min((count - 1) // 26 + 1, 20)
        return letter if form == "lowerLetter" else letter.upper()
    if form in ("lowerRoman", "upperRoman") and 0 < count < 4000:
        roman = _roman(count)
        return roman if form == "upperRoman" else roman.lower()
    return f"{count:02d}" if form == "decimalZero" else str(count)


def _roman(count: int) -> str:
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    signs = ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I")
    text = ""
    for step, sign in zip(values, signs, strict=True):
        text += sign * (count // step)
        count %= step
    return text
