"""RTF files: headings, paragraphs, lists, tables and notes.

Kreuzberg reads RTF well but for raised characters (10⁶ becomes 106), deleted text and page headers, which it puts
into the text; striprtf gives hidden text and loses footnotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.grid import Cell, add_table
from mixrag.corpus.parsers.office.rtf_text import CHARSETS, MARGINS, SIGNS, SKIPPED, WANTED, RtfState, RtfText
from mixrag.corpus.parsers.office.tally import Tally, finish
from mixrag.corpus.parsers.result import ParseResult
from mixrag.corpus.parsers.titles import useful_title

MAX_OPEN = 10_000
"""Groups in each other; a document needs some tens."""
_LONGEST_MARK = 60
_LONGEST_TITLE = 1000
_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,9})? ?|\\'([0-9a-fA-F]{2})|\\(.)|([{}])|[\r\n]+|([^\\{}\r\n]+)",
    re.DOTALL,
)
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)


@dataclass
class _Row:
    """A row of a table, and the merges that its definition gives."""

    cells: list[tuple[str, bool]] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    merge: str = ""
    header: bool = False


def read_rtf(data: bytes, name: str) -> ParseResult:
    """The document of an RTF file.

    Raises:
        UnreadableError: it has no text.
    """
    return _Reader(data).result()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.builder, self.tally = data, DocumentBuilder(), Tally()
        self.state = RtfState()
        self.stack: list[RtfState] = []
        self.page = "cp1252"
        self.fonts: dict[int, str] = {}
        self.styles: dict[int, int] = {}
        self.style_number, self.style_name, self.font_number = -1, "", -1
        self.title = ""
        self.paragraph, self.note, self.mark = RtfText(), RtfText(), ""
        self.notes: list[str] = []
        self.items: list[str] = []
        self.level = self.style = 0
        self.in_table = False
        self.row = _Row()
        self.rows: list[tuple[list[tuple[str, bool]], list[str], bool]] = []
        self.pending = bytearray()
        self.stand_ins = 0
        self.heading = ""
        self.words = self._words()

    def result(self) -> ParseResult:
        position, ignorable = 0, False
        while match := _TOKEN.match(self.data, position):
            position = match.end()
            word, number, code, sign, brace, text = match.groups()
            if code or text:
                self._bytes(bytes.fromhex(code.decode()) if code else text)
            elif sign == b"*":
                ignorable = True
                continue
            elif word:
                self._decode()
                if word == b"bin":
                    position += max(0, int(number or 0))
                else:
                    self._word(word.decode(), int(number) if number else None, ignorable)
            elif sign:
                self._sign(sign)
            elif brace:
                self._decode()
                self._brace(brace)
            ignorable = False
        self._decode()
        self._end_paragraph()
        self._end_table()
        self._end_list()
        return finish(self.builder, self.tally, useful_title(self.title) or self.heading)

    # text

    def _bytes(self, data: bytes) -> None:
        """Bytes in the code page of the font; they are decoded together, since a character may have two."""
        if self.stand_ins:
            count = min(self.stand_ins, len(data))
            self.stand_ins -= count
            data = data[count:]
        self.pending += data

    def _decode(self) -> None:
        if self.pending:
            data, self.pending = bytes(self.pending), bytearray()
            page = self.fonts.get(self.state.font, self.page)
            try:
                text = data.decode(page, "replace")
            except LookupError:
                text = data.decode("cp1252", "replace")
            self._text(text)

    def _text(self, text: str) -> None:
        state = self.state
        if state.to == "" or not text:
            return
        if state.to in ("body", "note", "mark") and (state.hidden or state.deleted):
            if text.strip():
                kind = "hidden text" if state.hidden else "tracked deletions"
                self.tally.add(kind, detail=f"{kind} was left out" if state.hidden else "")
        elif state.to == "body":
            self.paragraph.add(text, state)
        elif state.to == "note":
            self.note.add(text, state)
        elif state.to == "mark" and len(self.mark) < _LONGEST_MARK:
            self.mark += text
        elif state.to == "title" and len(self.title) < _LONGEST_TITLE:
            self.title += text
        elif state.to == "styles":
            self._style(text)

    def _style(self, text: str) -> None:
        self.style_name = (self.style_name + text)[-_LONGEST_TITLE:]
        if ";" in self.style_name:
            name = self.style_name.partition(";")[0].strip()
            if match := _HEADING.fullmatch(name):
                self.styles[self.style_number] = int(match[1])
            elif name.lower() == "title":
                self.styles[self.style_number] = 1
            self.style_name, self.style_number = "", -1

    def _sign(self, sign: bytes) -> None:
        if self.stand_ins:
            self.stand_ins -= 1
            return
        self._decode()
        if sign in b"\\{}":
            self._text(sign.decode())
        elif sign in (b"\r", b"\n"):
            self._end_paragraph()
        else:
            self._text({b"~": "\u00a0", b"_": "-", b"\t": "\t"}.get(sign, ""))

    # groups and control words

    def _brace(self, brace: bytes) -> None:
        self.stand_ins = 0
        if brace == b"{":
            if len(self.stack) < MAX_OPEN:
                self.stack.append(self.state)
        elif self.stack:
            before, self.state = self.state, self.stack.pop()
            if before.to == "note" != self.state.to:
                text = self.note.close().strip()
                self.note = RtfText()
                if text:
                    self.notes.append(text)
                    self._text(f"[{len(self.notes)}]")

    def _word(self, word: str, number: int | None, ignorable: bool) -> None:
        if self.stand_ins and word not in ("u", "uc"):
            self.stand_ins -= 1
        if self._destination(word, ignorable):
            return
        if word in SIGNS:
            self._text(SIGNS[word])
        elif word == "u" and number is not None:
            self._text(chr(number & 0xFFFF))
            self.stand_ins = self.state.skip
        elif act := self.words.get(word):
            act(number)

    def _destination(self, word: str, ignorable: bool) -> bool:
        """Whether the word says where the text of its group goes."""
        if self.state.to == "":
            return True
        if word in MARGINS or word in ("annotation", "pict", "object"):
            self._count(word)
        to = {
            "footnote": "note",
            "listtext": "mark",
            "pntext": "mark",
            "fonttbl": "fonts",
            "stylesheet": "styles",
        }.get(word)
        if to:
            self._go(to)
        elif word == "info":
            self._go("info")
        elif word == "title" and self.state.to == "info":
            self._go("title")
        elif word in SKIPPED or word in MARGINS or word in ("annotation", "pict"):
            self._go("")
        elif word in ("msup", "msub") and self.state.to in ("body", "note"):
            self._text("^" if word == "msup" else "_")
        elif (word.startswith("m") and word.endswith("Pr")) or (ignorable and word not in WANTED):
            self._go("")
        else:
            return False
        return True

    def _count(self, word: str) -> None:
        if word in MARGINS:
            self.tally.add("page headers and footers")
        elif word == "annotation":
            self.tally.add("comments")
        else:
            self.tally.add("images" if word == "pict" else "embedded objects")

    def _go(self, to: str) -> None:
        self.state = replace(self.state, to=to)

    def _words(self) -> dict[str, Callable[[int | None], None]]:
        def put(**given: object) -> None:
            self.state = replace(self.state, **given)  # type: ignore[arg-type]

        return {
            "ansicpg": self._set_page,
            "mac": lambda _: setattr(self, "page", "mac_roman"),
            "pc": lambda _: setattr(self, "page", "cp437"),
            "pca": lambda _: setattr(self, "page", "cp850"),
            "f": self._set_font,
            "fcharset": self._set_charset,
            "uc": lambda number: put(skip=min(max(number or 0, 0), 10)),
            "plain": lambda _: put(hidden=False, deleted=False, bold=False, script="", font=-1),
            "v": lambda number: put(hidden=number != 0),
            "deleted": lambda number: put(deleted=number != 0),
            "b": lambda number: put(bold=number != 0),
            "super": lambda number: put(script="super" if number != 0 else ""),
            "sub": lambda number: put(script="sub" if number != 0 else ""),
            "nosupersub": lambda _: put(script=""),
            "up": lambda number: put(script="super" if number else ""),
            "dn": lambda number: put(script="sub" if number else ""),
            "s": self._set_style,
            "outlinelevel": lambda number: setattr(self, "level", (number or 0) + 1 if (number or 0) < 9 else 0),
            "par": lambda _: self._end_paragraph(),
            "sect": lambda _: self._end_paragraph(),
            "pard": self._reset_paragraph,
            "intbl": lambda _: setattr(self, "in_table", True),
            "trowd": self._begin_row,
            "trhdr": lambda _: setattr(self.row, "header", True),
            "clmrg": lambda _: setattr(self.row, "merge", "left"),
            "clvmrg": lambda _: setattr(self.row, "merge", "up"),
            "cellx": self._define_cell,
            "cell": self._end_cell,
            "row": self._end_row,
        }

    def _set_page(self, number: int | None) -> None:
        self.page = {65001: "utf-8", 10000: "mac_roman", 936: "gbk"}.get(number or 1252, f"cp{number or 1252}")

    def _set_font(self, number: int | None) -> None:
        if self.state.to == "fonts":
            self.font_number = number or 0
        else:
            self.state = replace(self.state, font=number or 0)

    def _set_charset(self, number: int | None) -> None:
        if self.state.to == "fonts" and (page := CHARSETS.get(number or 0)):
            if number == 0 and self.page != "cp1252":
                page = self.page  # "ANSI" means the page of the file
            self.fonts[self.font_number] = page

    def _set_style(self, number: int | None) -> None:
        if self.state.to == "styles":
            self.style_number = number or 0
        else:
            self.style = self.styles.get(number or 0, 0)

    # paragraphs

    def _reset_paragraph(self, _: int | None) -> None:
        self.level = self.style = 0
        self.in_table = False

    def _end_paragraph(self) -> None:
        if self.state.to == "note":
            self.note.add(" ", self.state)
            return
        if self.state.to != "body":
            return
        if self.in_table:
            self.paragraph.add("\n", self.state)
            return
        text, mark = self.paragraph.close().strip(), " ".join(self.mark.split())
        self.paragraph, self.mark = RtfText(), ""
        if not text:
            return
        self._end_table()
        level = self.style or self.level
        if mark and not level:
            self.items.append(f"{'-' if len(mark) == 1 and not mark.isalnum() else mark} {text}")
        else:
            self._end_list()
            if level:
                self.heading = self.heading or (text if level == 1 else "")
                self.builder.heading(f"{mark} {text}".lstrip(), level)
            else:
                self.builder.paragraph(text)
        if any(self.notes):
            self._end_list()
            self._write_notes()

    def _end_list(self) -> None:
        self.builder.items(self.items)
        self.items = []

    def _write_notes(self) -> None:
        for number, note in enumerate(self.notes):
            if note:
                self.builder.paragraph(f"[{number + 1}] {note}")
                self.notes[number] = ""  # its number stays taken

    # tables

    def _begin_row(self, _: int | None) -> None:
        self.row = _Row(self.row.cells)

    def _define_cell(self, _: int | None) -> None:
        self.row.merges.append(self.row.merge)
        self.row.merge = ""

    def _end_cell(self, _: int | None) -> None:
        text = f"{' '.join(self.mark.split())} {self.paragraph.close()}".strip()
        self.row.cells.append((text, bool(text) and not self.paragraph.plain))
        self.paragraph, self.mark = RtfText(), ""

    def _end_row(self, _: int | None) -> None:
        self._end_list()
        self.rows.append((self.row.cells, self.row.merges, self.row.header))
        self.row = _Row(merges=self.row.merges, header=self.row.header)

    def _end_table(self) -> None:
        if not self.rows:
            return
        rows, self.rows = self.rows, []
        headers = 0
        while headers < len(rows) and rows[headers][2]:
            headers += 1
        grid = [_cells(rows, place) for place in range(len(rows))]
        add_table(self.builder, grid, header_rows=headers if 0 < headers < len(rows) else None)
        self._write_notes()


def _cells(rows: list[tuple[list[tuple[str, bool]], list[str], bool]], place: int) -> list[Cell]:
    """Cells of a row; merged ones are covered by the cell that they continue."""
    cells, merges, _ = rows[place]
    out: list[Cell] = []
    for column, (text, bold) in enumerate(cells):
        merge = merges[column] if column < len(merges) else ""
        if merge == "left" and out:
            out[-1] = replace(out[-1], columns=out[-1].columns + 1)
        elif merge != "up" or place == 0:
            deep = 1
            while place + deep < len(rows) and rows[place + deep][1][column : column + 1] == ["up"]:
                deep += 1
            out.append(Cell(text, 1, deep, bold))
    return out
