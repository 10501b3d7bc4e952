"""Text of a DOCX paragraph: runs, fields, notes, equations; what is deleted, moved away or hidden stays out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from mixrag.corpus.parsers.office.docx_styles import Style, Styles, W, numeral, switched, value
from mixrag.corpus.parsers.office.equations import linear
from mixrag.corpus.parsers.office.package import MC, M, R, alternative
from mixrag.corpus.parsers.office.tally import Tally
from mixrag.corpus.parsers.raised import subscript, superscript

_DEEPEST = 150
_WITHOUT_TEXT = frozenset(
    W + name
    for name in (
        "pPr",
        "rPr",
        "sdtPr",
        "sdtEndPr",
        "fldData",
        "ffData",
        "moveFrom",
        "delText",
        "delInstrText",
        "commentReference",
    )
)
_SIGNS = {
    f"{W}tab": "\t",
    f"{W}ptab": "\t",
    f"{W}br": "\n",
    f"{W}cr": "\n",
    f"{W}noBreakHyphen": "-",
}
# The font Symbol, from 0x41 and from 0x61.
_SYMBOL = dict(zip(range(0x41, 0x5B), "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)) | dict(
    zip(range(0x61, 0x7B), "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)
)
_SYMBOL |= {
    0xA3: "≤",
    0xB3: "≥",
    0xB1: "±",
    0xB4: "×",
    0xB7: "•",
    0xB9: "≠",
    0xBB: "≈",
    0xB0: "°",
    0xA5: "∞",
    0x2D: "−",
}


@dataclass(frozen=True, slots=True)
class _Look:
    """How a run looks."""

    script: str | None
    hidden: bool
    bold: bool


@dataclass
class Paragraph:
    """What a paragraph holds."""

    runs: list[tuple[str | None, str]] = field(default_factory=list)
    """Script ("superscript", "subscript" or None) and text."""
    boxes: list[Any] = field(default_factory=list)
    """Contents of text boxes."""
    notes: list[tuple[str, Any]] = field(default_factory=list)
    """Mark and element of each foot- and endnote."""
    parts: list[tuple[str, str]] = field(default_factory=list)
    """Charts and diagrams: kind, and id of the link to their part."""
    plain: bool = False
    """Whether some of the text is not bold."""
    codes: list[bool] = field(default_factory=list)
    """Of the open fields, the outermost first: whether their code, and not yet their result, is read."""

    @property
    def text(self) -> str:
        """The text, its raised and lowered characters marked."""
        text = ""
        for script, runs in groupby(self.runs, key=itemgetter(0)):
            run = "".join(each for _, each in runs)
            if script == "superscript":
                run = superscript(run, text)
            elif script == "subscript":
                run = subscript(run, text)
            text += run
        return text

    def add(self, text: str, script: str | None = None, *, bold: bool = True) -> None:
        """Add text, unless it stands in the code of a field."""
        if text and not any(self.codes):
            self.runs.append((script, text))
            self.plain |= not bold and not text.isspace()


class ParagraphReader:
    """Reads paragraphs of one document; fields may go on from one to the next."""

    def __init__(self, styles: Styles, tally: Tally, notes: dict[str, dict[str, Any]]) -> None:
        self._styles, self._tally, self._notes = styles, tally, notes
        self._marks = dict.fromkeys(notes, 0)
        self._codes: list[bool] = []

    def read(self, element: Any) -> Paragraph:
        """The content of a ``p`` element."""
        paragraph = Paragraph(codes=self._codes)
        self._walk(element, paragraph, 0)
        return paragraph

    def _walk(self, element: Any, into: Paragraph, depth: int) -> None:
        for each in element:
            if depth > _DEEPEST:
                into.add("".join(text.text or "" for text in each.iter(f"{W}t")))
            elif each.tag == f"{W}r":
                self._run(each, into, depth)
            elif each.tag == f"{W}del":
                self._tally.add("tracked deletions", detail="text that tracked changes delete was left out")
            elif each.tag in (f"{M}oMath", f"{M}oMathPara"):
                into.add(linear(each))
            elif each.tag == f"{MC}AlternateContent":
                self._walk(_chosen(each), into, depth + 1)
            elif each.tag not in _WITHOUT_TEXT:
                self._walk(each, into, depth + 1)

    def _run(self, run: Any, into: Paragraph, depth: int) -> None:
        properties = run.find(f"{W}rPr")
        style = None if properties is None else value(properties, f"{W}rStyle")
        named = self._styles.get(style) if style else Style()
        hidden, bold = switched(properties, "vanish"), switched(properties, "b")
        script = value(properties, f"{W}vertAlign") or named.script
        look = _Look(
            script if script in ("superscript", "subscript") else None,
            bool(named.hidden if hidden is None else hidden),
            bool(named.bold if bold is None else bold),
        )
        self._content(run, into, look, depth)

    def _content(self, run: Any, into: Paragraph, look: _Look, depth: int) -> None:
        for each in run:
            tag = each.tag
            if tag == f"{W}fldChar":
                self._field(each.get(f"{W}fldCharType"), into)
            elif tag == f"{W}t":
                if look.hidden:
                    self._tally.add("hidden text", detail="hidden text was left out")
                else:
                    into.add(each.text or "", look.script, bold=look.bold)
            elif look.hidden or tag in _WITHOUT_TEXT:
                continue
            elif tag in _SIGNS:
                into.add(_SIGNS[tag])
            elif tag == f"{W}sym":
                into.add(self._symbol(each))
            elif tag in (f"{W}footnoteReference", f"{W}endnoteReference"):
                self._note(each, into)
            elif tag == f"{MC}AlternateContent" and depth <= _DEEPEST:
                self._content(_chosen(each), into, look, depth + 1)
            elif tag in (f"{W}drawing", f"{W}pict", f"{W}object"):
                self._drawing(each, into)
            elif tag == f"{W}ruby":
                self._ruby(each, into, depth)

    @staticmethod
    def _field(kind: str | None, into: Paragraph) -> None:
        if kind == "begin":
            into.codes.append(True)
        elif into.codes and kind == "separate":
            into.codes[-1] = False
        elif into.codes and kind == "end":
            into.codes.pop()

    def _symbol(self, element: Any) -> str:
        try:
            code = int(element.get(f"{W}char", ""), 16)
        except ValueError:
            return ""
        if not 0xF000 <= code <= 0xF0FF:
            return chr(code) if 0x20 <= code < 0xD800 else ""
        if "symbol" in (element.get(f"{W}font") or "").lower() and (sign := _SYMBOL.get(code - 0xF000)):
            return sign
        self._tally.add("symbols of a picture font", detail="characters of fonts such as Wingdings were left out")
        return " "

    def _note(self, element: Any, into: Paragraph) -> None:
        kind = "footnote" if element.tag == f"{W}footnoteReference" else "endnote"
        if any(into.codes):
            return
        note = self._notes[kind].pop(element.get(f"{W}id", ""), None)  # once, however often it is referred to
        if note is None:
            return
        mark = ""
        if element.get(f"{W}customMarkFollows") is None:
            self._marks[kind] += 1
            mark = numeral(self._marks[kind], "decimal" if kind == "footnote" else "lowerRoman")
            into.add(f"[{mark}]")
        into.notes.append((mark, note))

    def _ruby(self, element: Any, into: Paragraph, depth: int) -> None:
        for name, form in (("rubyBase", "{}"), ("rt", "({})")):
            part = Paragraph(codes=into.codes)
            for each in element.iterfind(f"{W}{name}"):
                self._walk(each, part, depth + 1)
            if part.text:
                into.add(form.format(part.text))

    def _drawing(self, element: Any, into: Paragraph) -> None:
        if element.tag == f"{W}object":
            self._tally.add("embedded objects")
        for each in descend(element, lambda inner: inner.tag == f"{W}txbxContent"):
            name = each.tag.rpartition("}")[2]
            if name == "txbxContent":
                into.boxes.append(each)
            elif name == "docPr" and (text := (each.get("descr") or "").strip()):
                into.add(f" [image: {text}] ")
            elif name == "blip" or (name == "imagedata" and element.tag == f"{W}pict"):
                self._tally.add("images", detail="images were left out but for their descriptions")
            elif name == "chart" and each.get(f"{R}id"):
                into.parts.append(("chart", each.get(f"{R}id")))
            elif name == "relIds" and each.get(f"{R}dm"):
                into.parts.append(("diagram", each.get(f"{R}dm")))


def _chosen(element: Any) -> Any:
    chosen = alternative(element)
    return () if chosen is None else chosen


def descend(element: Any, closed: Callable[[Any], bool]) -> Iterator[Any]:
    """All elements below, in order: of alternatives one, and nothing below an element that is closed."""
    waiting = list(reversed(element))
    while waiting:
        each = waiting.pop()
        if not isinstance(each.tag, str):
            continue
        if each.tag == f"{MC}AlternateContent":
            chosen = alternative(each)
            waiting += [] if chosen is None else list(reversed(chosen))
            continue
        yield each
        if not closed(each):
            waiting += reversed(each)
