"""Words of RTF that need no rule of their own, and the text that a group adds to."""

from __future__ import annotations

from dataclasses import dataclass, field

from mixrag.corpus.parsers.raised import subscript, superscript

CHARSETS = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gbk", 136: "cp950",
    161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251",
    222: "cp874", 238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip
SIGNS = {
    "tab": "\t", "line": "\n", "lbr": "\n", "page": "\n", "column": "\n", "emdash": "—", "endash": "–",
    "bullet": "•", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "emspace": " ",
    "enspace": " ", "qmspace": " ", "nestcell": " ", "nestrow": " ",
}  # fmt: skip
MARGINS = frozenset({"header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf"})
SKIPPED = frozenset({
    "colortbl", "fldinst", "pn", "nonshppict", "shprslt", "atnid", "atnauthor", "atntime", "atnref", "atndate",
    "xe", "tc", "rxe", "filetbl", "revtbl", "listtable", "listoverridetable", "generator", "bkmkstart", "bkmkend",
    "do", "mmathPict", "formfield", "datafield", "datastore", "themedata", "sn", "sv", "falt", "panose", "ftnsep",
    "ftnsepc", "aftnsep", "aftnsepc", "private", "template",
})  # fmt: skip
WANTED = frozenset(
    {"shpinst", "shptxt", "shppict", "moMath", "moMathPara", "fldrslt", "result", "listtext", "pntext"}
)


@dataclass(frozen=True, slots=True)
class RtfState:
    """What a group inherits from the one around it."""

    to: str = "body"
    """Where text goes: body, note, mark, title, fonts, styles or nowhere ("")."""
    hidden: bool = False
    deleted: bool = False
    bold: bool = False
    script: str = ""
    font: int = -1
    skip: int = 1
    """Characters that stand in for one Unicode character."""


@dataclass
class RtfText:
    """A paragraph, note or cell while it is read."""

    parts: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    script: str = ""
    plain: bool = False

    def add(self, text: str, state: RtfState) -> None:
        """Add text that looks as the state says."""
        if state.script != self.script:
            self._close()
            self.script = state.script
        self.run.append(text)
        self.plain |= not state.bold and bool(text.strip())

    def close(self) -> str:
        """The text, its raised and lowered characters marked."""
        self._close()
        return "".join(self.parts)

    def _close(self) -> None:
        # Characters beyond 16 bits are given in two halves.
        run = "".join(self.run).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        before = self.parts[-1] if self.parts else ""
        if self.script == "super":
            run = superscript(run, before)
        elif self.script == "sub":
            run = subscript(run, before)
        self.run = []
        if run:
            self.parts.append(run)
