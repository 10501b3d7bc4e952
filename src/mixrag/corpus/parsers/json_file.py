"""JSON files: an array of records as JSONL, any other value as lines "path: value"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.encoding import decode_text
from mixrag.corpus.parsers.records import MOST_LEVELS, Records, is_deep, read_jsonl
from mixrag.corpus.parsers.result import OTHER_FORMAT, Notice, ParseResult, UnreadableError
from mixrag.corpus.parsers.titles import useful_title

_TITLES = ("title", "name", "headline", "subject")


def read_json(data: bytes, name: str) -> ParseResult:
    """Records with a ``text`` each as a JSONL file; other objects of an array a Document each; else one Document.

    What is no JSON is read as text, and a notice says so.

    Raises:
        UnreadableError: binary data, or no value that can be shown.
    """
    text, notices = decode_text(data)
    try:
        value = json.loads(text.removeprefix("\ufeff"))
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        return _not_json(text, name, str(error), notices)
    if isinstance(value, list) and len(value) > 1 and all(isinstance(each, dict) and each for each in value):
        return _records(value, name, notices)
    if is_deep(value):
        raise _too_deep()
    title = (
        next((value[key] for key in _TITLES if isinstance(value.get(key), str)), "")
        if isinstance(value, dict)
        else ""
    )
    builder = DocumentBuilder()
    _write(value, builder)
    document = builder.document(useful_title(title))
    if not document.text.strip():
        raise UnreadableError("a file with text", "no extractable text", "leave it out")
    return ParseResult((document,), (), notices)


def _records(values: list[dict[str, Any]], name: str, notices: tuple[Notice, ...]) -> ParseResult:
    records = Records(name)
    records.notices += notices
    for number, fields in enumerate(values, start=1):
        if "text" not in fields and not is_deep(fields):
            builder = DocumentBuilder()
            _write(fields, builder)
            title = next((fields[key] for key in _TITLES if isinstance(fields.get(key), str)), None)
            plain = {key: value for key, value in fields.items() if not isinstance(value, dict | list)}
            fields = {**plain, "title": title, "text": builder.document().text}
        records.add(number, fields)
    return records.result()


def _not_json(text: str, name: str, why: str, notices: tuple[Notice, ...]) -> ParseResult:
    if why.startswith("Extra data"):  # several values: JSON lines under another name
        try:
            result = read_jsonl(text.encode(), name)
        except UnreadableError:
            result = ParseResult(())
        if len(result.documents) > len(result.skipped):
            return ParseResult(result.documents, result.skipped, (*notices, *result.notices))
    builder = DocumentBuilder()
    builder.code(text)
    document = builder.document()
    if not document.text.strip():
        raise UnreadableError("a file with text", "no extractable text", "leave it out")
    return ParseResult(
        (document,), (), (*notices, Notice(OTHER_FORMAT, 1, f"no valid JSON ({why}); read as text"))
    )


def _too_deep() -> UnreadableError:
    return UnreadableError(f"JSON of at most {MOST_LEVELS} levels", "more", "flatten it or leave it out")


def _write(value: Any, builder: DocumentBuilder) -> None:
    """One list of lines for each member of the outermost object or array."""
    members = _members(value)
    if members is None:
        builder.paragraph(_shown(value))
        return
    plain: list[str] = []
    for key, inner in members:
        if _members(inner) is None:
            plain.append(f"{key}: {_shown(inner)}")
            continue
        builder.items(plain)
        plain = []
        if _is_grid(inner):
            names = list(dict.fromkeys(name for row in inner for name in row))
            rows = [[_shown(row[name]) if name in row else "" for name in names] for row in inner]
            builder.table([names, *rows], header_rows=1, caption=key)
        else:
            builder.items([f"{path}: {_shown(leaf)}" for path, leaf in _leaves(key, inner)])
    builder.items(plain)


def _members(value: Any) -> list[tuple[str, Any]] | None:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return [(str(number), each) for number, each in enumerate(value, start=1)]
    return None


def _is_grid(value: Any) -> bool:
    """Whether an array is a table: objects of plain values."""
    rows = value if isinstance(value, list) and len(value) > 1 else []
    return bool(rows) and all(
        isinstance(row, dict) and row and all(_members(each) is None for each in row.values()) for row in rows
    )


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Path and value of all that is neither object nor array; arrays of plain values are one."""
    waiting = [(path, value)]
    while waiting:
        where, each = waiting.pop()
        members = _members(each)
        if members is None:
            yield where, each
        elif isinstance(each, list) and all(_members(inner) is None for inner in each):
            yield where, ", ".join(map(_shown, each))
        else:
            waiting += [(f"{where}.{key}", inner) for key, inner in reversed(members)]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
