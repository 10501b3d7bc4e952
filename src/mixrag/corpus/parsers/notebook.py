"""Jupyter notebooks: the text of Markdown cells, code, and what the code printed."""

from __future__ import annotations

import json
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.encoding import decode_text
from mixrag.corpus.parsers.json_file import read_json
from mixrag.corpus.parsers.markdown import write_markdown
from mixrag.corpus.parsers.plain import one_text
from mixrag.corpus.parsers.result import Notice, ParseResult
from mixrag.corpus.parsers.titles import useful_title


def read_notebook(data: bytes, name: str) -> ParseResult:
    """One document; the place of each cell is its number. Pictures among the results are counted.

    Raises:
        UnreadableError: binary data, or no text.
    """
    text, notices = decode_text(data)
    try:
        cells = json.loads(text)["cells"]
        given = [(str(cell["cell_type"]), _joined(cell["source"]), cell.get("outputs") or []) for cell in cells]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return read_json(data, name)
    builder, title, pictures = DocumentBuilder(), "", 0
    for number, (kind, source, outputs) in enumerate(given, start=1):
        builder.at(f"cell {number}")
        if kind == "markdown":
            page = write_markdown(source, builder)
            title = title or page.first_top_heading
        else:
            builder.code(source)
        for output in outputs if isinstance(outputs, list) else []:
            shown, picture = _shown(output)
            builder.code(shown)
            pictures += picture
    if pictures:
        notices = (*notices, Notice("images", pictures))
    return one_text(builder, notices, useful_title(title))


def _joined(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def _shown(output: Any) -> tuple[str, bool]:
    """What a cell printed or gave, as text, and whether a picture was among it."""
    data = output.get("data") if isinstance(output, dict) else None
    if not isinstance(data, dict):
        return _joined(output.get("text", "")) if isinstance(output, dict) else "", False
    return _joined(data.get("text/plain", "")), any(str(key).startswith("image/") for key in data)
