"""LaTeX: sections, paragraphs, lists and simple tables; equations stay as their source, comments are left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.cleaning import plain_characters
from mixrag.corpus.parsers.encoding import decode_text
from mixrag.corpus.parsers.plain import one_text
from mixrag.corpus.parsers.result import ParseResult
from mixrag.corpus.parsers.titles import useful_title

_LEVELS = {
    "part": 1,
    "chapter": 1,
    "section": 2,
    "subsection": 3,
    "subsubsection": 4,
    "paragraph": 5,
    "subparagraph": 6,
}
_VERBATIM = ("verbatim", "Verbatim", "lstlisting", "minted", "alltt")
_TABLES = ("tabular", "tabular*", "tabularx", "tabulary", "longtable", "array")
_EQUATIONS = ("equation", "align", "gather", "multline", "eqnarray", "displaymath", "math", "flalign", "alignat")
_LISTS = ("itemize", "enumerate", "description")
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*(?:\n[ \t]*(?=\S))?")
_PIECE = re.compile(
    r"\\begin\s*\{(?P<begin>[^{}]*)\}|\\end\s*\{(?P<end>[^{}]*)\}|\\item\b\s*(?:\[(?P<label>[^\]]*)\])?"
    rf"|\\(?P<section>{'|'.join(_LEVELS)})\*?\s*(?:\[[^\]]*\])?\s*(?=\{{)|\\caption\*?\s*(?:\[[^\]]*\])?\s*(?=\{{)"
    r"|\n[ \t]*\n|\\par\b|\\\["
)
_TOKEN = re.compile(
    r"(?P<math>\$\$?|\\\()|\\(?P<name>[a-zA-Z]+)\*?[ \t]*"
    r"|\\(?P<accent>['`^\"~=.])\s*(?:\{(?P<in>\\?[a-zA-Z])\}|(?P<bare>\\?[a-zA-Z]))"
    r"|\\(?P<symbol>.)|(?P<brace>[{}])|(?P<other>~|---?|``|'')",
    re.DOTALL,
)
_ACCENTS = {
    "'": "\u0301",
    "`": "\u0300",
    "^": "\u0302",
    '"': "\u0308",
    "~": "\u0303",
    "=": "\u0304",
    ".": "\u0307",
}
_LETTER_ACCENTS = {"c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328", "r": "\u030a"}
_NAMES = {
    **{"ss": "ß", "o": "ø", "O": "Ø", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å", "l": "ł"},
    **{
        "L": "Ł",
        "i": "ı",
        "ldots": "…",
        "dots": "…",
        "textellipsis": "…",
        "LaTeX": "LaTeX",
        "TeX": "TeX",
        "S": "§",
    },
    **{
        "textendash": "–",
        "textemdash": "—",
        "euro": "€",
        "texteuro": "€",
        "pounds": "£",
        "copyright": "©",
        "P": "¶",
    },
    **{"textbackslash": "\\", "textasciitilde": "~", "textquoteright": "’", "newline": "\n", "linebreak": "\n"},
    **{"quad": " ", "qquad": " ", "item": "", "degree": "°", "textdegree": "°", "textbar": "|"},
}
# How many arguments of a command are no text.
_WITHOUT_TEXT = {
    **dict.fromkeys(
        ("label", "vspace", "hspace", "includegraphics", "input", "include", "bibliography", "pagestyle"), 1
    ),
    **dict.fromkeys(
        ("bibliographystyle", "usepackage", "documentclass", "thispagestyle", "hyphenation", "index"), 1
    ),
    **dict.fromkeys(
        ("href", "textcolor", "color", "multicolumn", "setlength", "setcounter", "fontsize", "cline"), 1
    ),
    **dict.fromkeys(
        ("newcommand", "renewcommand", "definecolor", "raisebox", "cmidrule", "nocite", "colorbox"), 1
    ),
}
_WITHOUT_TEXT |= {
    "multicolumn": 2,
    "newcommand": 2,
    "renewcommand": 2,
    "setlength": 2,
    "setcounter": 2,
    "fontsize": 2,
}
_BRACKETED = {"cite": "[", "citep": "[", "citet": "[", "autocite": "[", "footnote": " (", "footnotetext": " ("}


def read_latex(data: bytes, name: str) -> ParseResult:
    r"""One document, with the title that ``\title`` gives.

    Raises:
        UnreadableError: binary data, or no text.
    """
    text, notices = decode_text(data)
    text = plain_characters(text)
    _, begun, body = text.partition("\\begin{document}")
    source = body.partition("\\end{document}")[0] if begun else text
    writer = _Writer()
    title = _argument_of("title", text)
    for given, level in ((title, 1), (_argument_of("author", text), 0), (_argument_of("date", text), 0)):
        writer.write(plain(given), level)
    writer.read(source)
    return one_text(writer.builder, notices, useful_title(plain(title)))


def plain(source: str) -> str:
    """The text of running LaTeX: formulas as they stand, commands replaced by their text."""
    parts: list[str] = []
    closing: list[str] = []
    place = 0
    while found := _TOKEN.search(source, place):
        parts.append(source[place : found.start()])
        place = found.end()
        if mark := found["math"]:
            end = source.find("\\)" if mark == "\\(" else mark, place)
            end = len(source) if end < 0 else end + len(mark)
            parts.append(source[found.start() : end])
            place = end
        elif found["brace"]:
            if found["brace"] == "{":
                closing.append("")
            elif closing:
                parts.append(closing.pop())
        elif name := found["name"]:
            place = _command(name, source, place, parts, closing)
        else:
            parts.append(_symbol(found))
    parts.append(source[place:])
    return "".join(parts)


def _command(name: str, source: str, place: int, parts: list[str], closing: list[str]) -> int:
    """Write what a command stands for; where to go on."""
    if name in _LETTER_ACCENTS and (letter := re.match(r"\{?([a-zA-Z])\}?", source[place : place + 3])):
        parts.append(unicodedata.normalize("NFC", letter[1] + _LETTER_ACCENTS[name]))
        return place + letter.end()
    place = _after_options(source, place)
    for _ in range(_WITHOUT_TEXT.get(name, 0)):
        place = _after_options(source, _after_group(source, place))
    if name in _BRACKETED and source[place : place + 1] == "{":
        parts.append(_BRACKETED[name])
        closing.append("]" if _BRACKETED[name] == "[" else ")")
        return place + 1
    known = _NAMES.get(name)
    parts.append(known if known is not None else "")
    return place


def _symbol(found: re.Match[str]) -> str:
    if letter := (found["in"] or found["bare"]):
        return unicodedata.normalize("NFC", letter.removeprefix("\\") + _ACCENTS[found["accent"]])
    if symbol := found["symbol"]:
        return {"\\": "\n", "-": "", ",": " ", ";": " ", "/": ""}.get(symbol, symbol)
    return {"~": " ", "--": "–", "---": "—", "``": "“", "''": "”"}[found["other"]]


def _after_options(source: str, place: int) -> int:
    while option := re.compile(r"\[[^\[\]]*\]").match(source, place):
        place = option.end()
    return place


def _after_group(source: str, place: int) -> int:
    """The place after the braces that open here, or the same place."""
    if source[place : place + 1] != "{":
        return place
    depth = 0
    for found in re.compile(r"\\.|[{}]", re.DOTALL).finditer(source, place):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(source)


def _argument_of(command: str, source: str) -> str:
    found = re.search(rf"\\{command}\s*(?:\[[^\]]*\])?\s*(?=\{{)", source)
    return source[found.end() + 1 : _after_group(source, found.end()) - 1] if found else ""


class _Writer:
    """Writes a body piece by piece, and knows the lists that are open."""

    def __init__(self) -> None:
        self.builder = DocumentBuilder()
        self._text: list[str] = []
        self._items: list[str] = []
        self._lists: list[int | None] = []
        self._caption = ""

    def write(self, text: str, level: int = 0) -> None:
        """A heading, or with level 0 a paragraph or an item of the open list."""
        text = "\n".join(" ".join(line.split()) for line in text.strip().split("\n"))
        if level:
            self.builder.heading(text, level)
        elif self._lists and text:
            self._items.append(" ".join(text.split()))
        else:
            self.builder.paragraph(text)

    def read(self, source: str) -> None:
        """A body, up to its end."""
        place = 0
        for verbatim, stretch in _stretches(source):
            if verbatim:
                self._end_paragraph()
                self._end_items()
                self.builder.code(stretch)
                continue
            place = 0
            while found := _PIECE.search(stretch, place):
                self._text.append(stretch[place : found.start()])
                place = self._piece(found, stretch)
            self._text.append(stretch[place:])
        self._end_paragraph()
        self._end_items()

    def _piece(self, found: re.Match[str], source: str) -> int:
        if found[0] == "\\[":
            return self._equation(found.start(), source.find("\\]", found.end()), 2, source)
        if (name := found["begin"]) is not None:
            return self._begin(name.strip(), found, source)
        if found[0].lstrip().startswith(("\\section", "\\caption")) or found["section"]:
            end = _after_group(source, found.end())
            self._titled(found["section"], source[found.end() + 1 : end - 1])
            return end
        self._end_paragraph()
        if found["end"] in _LISTS and self._lists:
            self._lists.pop()
            if not self._lists:
                self._end_items()
        elif found[0].startswith("\\item"):
            self._item(found["label"])
        return found.end()

    def _titled(self, section: str | None, text: str) -> None:
        self._end_paragraph()
        self._end_items()
        if section:
            self._lists = []
            self.write(" ".join(plain(text).split()), _LEVELS[section])
        else:
            self.builder.paragraph(plain(text))

    def _begin(self, name: str, found: re.Match[str], source: str) -> int:
        self_contained = name in _TABLES or name.rstrip("*") in _EQUATIONS
        end = source.find(f"\\end{{{name}}}", found.end()) if self_contained else -1
        if name.rstrip("*") in _EQUATIONS:
            return self._equation(found.start(), end, len(f"\\end{{{name}}}"), source)
        self._end_paragraph()
        if name in _LISTS:
            self._lists.append(1 if name == "enumerate" else None)
        elif name in _TABLES and end >= 0:
            self._end_items()
            self._table(source[_after_columns(name, source, found.end()) : end])
            return end + len(f"\\end{{{name}}}")
        return _after_options(source, found.end())

    def _equation(self, start: int, end: int, mark: int, source: str) -> int:
        """A displayed formula stays in its paragraph, as its source."""
        end = len(source) if end < 0 else end + mark
        self._text.append("\x00" + source[start:end] + "\x00")
        return end

    def _item(self, label: str | None) -> None:
        if not self._lists:
            return
        mark = f"{plain(label)}:" if label else "-"
        if self._lists[-1] is not None and not label:
            mark = f"{self._lists[-1]}."
            self._lists[-1] += 1
        self._text.append("  " * min(len(self._lists) - 1, 8) + mark + " ")

    def _table(self, source: str) -> None:
        ruled = re.search(r"\\(?:hline|midrule)\b", source.partition("\\\\")[2][:80]) is not None
        rows = [
            row
            for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\tabularnewline\b", source)
            if plain(_unruled(row)).strip()
        ]
        cells: list[list[str | None]] = []
        for row in rows:
            line: list[str | None] = []
            for cell in re.split(r"(?<!\\)&", _unruled(row)):
                wide = re.match(r"\s*\\multicolumn\s*\{\s*(\d{1,2})\s*\}", cell)
                line += [plain(cell), *[None] * (int(wide[1]) - 1 if wide else 0)]
            cells.append(line)
        self.builder.table(cells, header_rows=1 if ruled and len(rows) > 1 else None)

    def _end_paragraph(self) -> None:
        source, self._text = "".join(self._text), []
        indent = re.match(r"[ \n]*?( *)(?=\S)", source)
        parts = source.split("\x00")
        text = "".join(part if number % 2 else plain(part) for number, part in enumerate(parts))
        if self._lists and text.strip():
            lead = indent[1] if indent else ""
            self._items.append(lead + " ".join(text.split()))
        else:
            self.write(text)

    def _end_items(self) -> None:
        if self._items:
            self.builder.items(self._items)
            self._items = []


def _unruled(row: str) -> str:
    return re.sub(r"\\(?:hline|toprule|midrule|bottomrule|c(?:mid)?(?:line|rule)(?:\([^)]*\))?\{[^}]*\})", "", row)


def _after_columns(name: str, source: str, place: int) -> int:
    for _ in range(2 if name in {"tabular*", "tabularx", "tabulary"} else 1):
        place = _after_group(source, _after_options(source, place))
    return place


def _stretches(source: str) -> Iterator[tuple[bool, str]]:
    """Verbatim environments, which are marked, and what is between them, without comments."""
    place = 0
    begin = re.compile(rf"\\begin\{{({'|'.join(map(re.escape, _VERBATIM))})\}}(?:\[[^\]\n]*\])?(?:\{{\w*\}})?")
    while found := begin.search(source, place):
        yield False, _COMMENT.sub(r"\1", source[place : found.start()])
        end = source.find(f"\\end{{{found[1]}}}", found.end())
        end = len(source) if end < 0 else end
        yield True, source[found.end() : end]
        place = end + len(f"\\end{{{found[1]}}}")
    yield False, _COMMENT.sub(r"\1", source[place:])
