"""What office documents draw and still say in words: charts and diagrams."""

from __future__ import annotations

from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.office.package import A

C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
D = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_MOST_POINTS = 2000


def add_chart(builder: DocumentBuilder, root: Any) -> None:
    """A chart as a table: a row a category, a column a series, from the values stored in it."""
    title = _text(root.find(f".//{C}chart/{C}title"))
    series = list(root.iter(f"{C}ser"))
    names = [_series_name(each, place) for place, each in enumerate(series, start=1)]
    values = [_points(each, "val", "yVal") for each in series]
    categories: dict[int, str] = {}
    for each in series:
        categories = _points(each, "cat", "xVal") | categories
    places = sorted({place for points in values for place in points})[:_MOST_POINTS]
    if not places:
        builder.paragraph(title)
        return
    rows = [
        [categories.get(place, str(place + 1)), *(points.get(place, "") for points in values)] for place in places
    ]
    builder.table([["", *names], *rows], header_rows=1, caption=title)


def diagram_items(root: Any) -> list[str]:
    """The texts of a SmartArt diagram as items of a list."""
    texts = (
        _text(each.find(f"{D}t")) for each in root.iter(f"{D}pt") if each.get("type", "node") in ("node", "doc")
    )
    return [f"- {text}" for text in texts if text]


def _series_name(series: Any, place: int) -> str:
    found = series.find(f"{C}tx")
    return (
        "" if found is None else " ".join(each.text or "" for each in found.iter(f"{C}v"))
    ) or f"series {place}"


def _points(series: Any, *names: str) -> dict[int, str]:
    """Cached values by their place; of categories on several levels the lowest."""
    found = next((part for name in names if (part := series.find(f"{C}{name}")) is not None), None)
    points: dict[int, str] = {}
    for each in () if found is None else found.iter(f"{C}pt"):
        place = each.get("idx", "")
        if place.isdigit() and len(place) < 8:
            points.setdefault(int(place), _short(each.findtext(f"{C}v") or ""))
    return points


def _short(text: str) -> str:
    """A stored value without the digits that binary fractions add: 0.30000000000000004 is 0.3."""
    try:
        return f"{float(text):.12g}" if "." in text and len(text) > 14 else text
    except ValueError:
        return text


def _text(element: Any | None) -> str:
    if element is None:
        return ""
    lines = ("".join(text.text or "" for text in each.iter(f"{A}t")) for each in element.iter(f"{A}p"))
    return " ".join(line.strip() for line in lines if line.strip())
