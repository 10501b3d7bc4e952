"""Office equations (OMML) as a line of text: x^2=9, (a+b)/(2c), sqrt(x)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mixrag.corpus.parsers.office.package import M, local

_DEEPEST = 60


def linear(element: Any, depth: int = 0) -> str:
    """An ``oMath`` or ``oMathPara`` element in a line."""
    if depth > _DEEPEST:
        return "".join(each.text or "" for each in element.iter(f"{M}t"))
    name = local(element)
    if name == "t":
        return element.text or ""
    if name.endswith("Pr") or name in ("delText", "del"):
        return ""
    form = _FORMS.get(name)
    if form is not None:
        return form(_Parts(element, depth + 1))
    return "".join(linear(each, depth + 1) for each in element)


class _Parts:
    """The arguments of one form."""

    def __init__(self, element: Any, depth: int) -> None:
        self.element, self.depth = element, depth

    def __getitem__(self, name: str) -> str:
        found = self.element.find(f"{M}{name}")
        return "" if found is None else linear(found, self.depth).strip()

    def all(self, name: str) -> list[str]:
        return [linear(each, self.depth).strip() for each in self.element.findall(f"{M}{name}")]

    def value(self, name: str, usual: str) -> str:
        """A property of the form, such as the character of its bracket."""
        found = next(self.element.iter(f"{M}{name}"), None)
        return usual if found is None else str(found.get(f"{M}val", ""))


def _bracket(parts: _Parts) -> str:
    inner = parts.value("sepChr", "|").join(parts.all("e"))
    return parts.value("begChr", "(") + inner + parts.value("endChr", ")")


def _root(parts: _Parts) -> str:
    degree = parts["deg"]
    return f"root({degree}, {parts['e']})" if degree else f"sqrt({parts['e']})"


def _limits(parts: _Parts) -> str:
    low, high = parts["sub"], parts["sup"]
    bounds = (f"_{script(low)}" if low else "") + (f"^{script(high)}" if high else "")
    return f"{parts.value('chr', '∫')}{bounds} {parts['e']}"


def _matrix(parts: _Parts) -> str:
    rows = [_Parts(row, parts.depth) for row in parts.element.findall(f"{M}mr")]
    return "[" + "; ".join(", ".join(row.all("e")) for row in rows) + "]"


_FORMS: dict[str, Callable[[_Parts], str]] = {
    "sSup": lambda parts: f"{parts['e']}^{script(parts['sup'])}",
    "sSub": lambda parts: f"{parts['e']}_{script(parts['sub'])}",
    "sSubSup": lambda parts: f"{parts['e']}_{script(parts['sub'])}^{script(parts['sup'])}",
    "sPre": lambda parts: f"_{script(parts['sub'])}^{script(parts['sup'])}{parts['e']}",
    "f": lambda parts: f"{script(parts['num'])}/{script(parts['den'])}",
    "rad": _root,
    "d": _bracket,
    "nary": _limits,
    "m": _matrix,
    "func": lambda parts: f"{parts['fName']}({parts['e']})",
    "limLow": lambda parts: f"{parts['e']}_{script(parts['lim'])}",
    "limUpp": lambda parts: f"{parts['e']}^{script(parts['lim'])}",
    "eqArr": lambda parts: "; ".join(parts.all("e")),
}


def script(text: str) -> str:
    """A part of a form behind a sign: in parentheses unless it is a single word or number."""
    text = text.strip()
    plain = text[1:] if text[:1] in ("+", "-", "−") else text
    return text if plain.isalnum() else f"({text})"
