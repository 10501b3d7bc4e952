"""JSONL and CSV files: one Document a record, a reason for each record left out, a notice of what was mended."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.delimited import Rows, read_rows
from mixrag.corpus.parsers.encoding import decode_text
from mixrag.corpus.parsers.result import Notice, ParseResult, Skipped, UnreadableError
from mixrag.corpus.passage import Document, Scalar

_OWN_KEYS = frozenset({"id", "text", "title"})
_LONGEST_METADATA = 2_000
MOST_LEVELS = 100
"""Levels of a JSON value that are read."""
_NUMBER = re.compile(r"\s*[-+]?[\d.,]*\d[\d.,]*\s*%?\s*")
_YEAR = re.compile(r"\s*(?:19|20)\d\d\s*")


class _RecordError(ValueError):
    """Why a record cannot be used."""


class Records:
    """Documents and skipped records of one file, with ids that occur once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notices: list[Notice] = []
        self._documents: list[Document] = []
        self._skipped: list[Skipped] = []
        self._counts: dict[str, int] = {}
        self._repeated: list[tuple[int, str]] = []

    def add(self, line: int, fields: Mapping[str, Any]) -> None:
        """Take one record, or note why not: ``text``, ``id``, ``title``; the others are its metadata."""
        try:
            document = _document(line, fields)
        except _RecordError as error:
            self.skip(line, str(error))
        else:
            self._documents.append(replace(document, id=self._own_id(line, document.id or "")))

    def skip(self, line: int, reason: str) -> None:
        """Note why a record is left out."""
        self._skipped.append(Skipped(f"{self.name}:{line}", reason))

    def result(self) -> ParseResult:
        """What was taken.

        Raises:
            UnreadableError: no record at all.
        """
        if not self._documents and not self._skipped:
            raise UnreadableError("a file with records", "no record", "fill it or leave it out")
        if self._repeated:
            line, id_ = self._repeated[0]
            detail = f"first in line {line}: {id_!r}; each got a number: {id_} (2)"
            self.notices.append(Notice("repeated ids", len(self._repeated), detail))
        return ParseResult(tuple(self._documents), tuple(self._skipped), tuple(self.notices))

    def _own_id(self, line: int, id_: str) -> str:
        own = id_
        while own in self._counts:
            self._counts[id_] += 1
            own = f"{id_} ({self._counts[id_]})"
        self._counts[own] = 1
        if own != id_:
            self._repeated.append((line, id_))
        return own


def read_jsonl(data: bytes, name: str) -> ParseResult:
    """One Document a line: keys ``text`` (needed), ``id``, ``title``; the others are its metadata.

    Raises:
        UnreadableError: binary data, or no line at all.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = decode_text(data)[0].encode()
    if (offset := data.find(b"\0")) >= 0:
        found = f"binary data (a NUL byte at offset {offset})"
        raise UnreadableError("JSON lines in UTF-8", found, "convert or rename it")
    records = Records(name)
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            records.add(number, _json_object(line))
        except _RecordError as error:
            records.skip(number, str(error))
    return records.result()


def read_csv(data: bytes, name: str) -> ParseResult:
    """One Document a row, under a header row; the delimiter is found.

    With a ``text`` column a row reads as a JSONL record does; without one its text is a line "column: value" for
    each value, and its values are metadata too.

    Raises:
        UnreadableError: binary data, or no row at all.
    """
    text, notices = decode_text(data)
    records, found = Records(name), read_rows(text)
    records.notices += notices
    if found.unclosed:
        detail = f"first in line {found.unclosed[0]}; these lines are read as if quotes meant nothing"
        records.notices.append(Notice("quotes never closed", len(found.unclosed), detail))
    if len(found.rows) == 1:  # names without rows, or a sentence
        line, values = found.rows[0]
        records.add(line, {"text": " | ".join(filter(None, map(str.strip, values)))})
    elif found.rows:
        _Columns(found, records).add_rows()
    return records.result()


class _Columns:
    """The columns of a file: their names, and the rows below them."""

    def __init__(self, found: Rows, records: Records) -> None:
        self.records, self.delimiter, self.rows = records, found.delimiter, found.rows
        self._take_title()
        self.names = self._header()
        self._long: list[int] = []

    def add_rows(self) -> None:
        """Take every row."""
        for line, values in self.rows:
            self.records.add(line, self._fields(line, values))
        if self._long:
            detail = f"first in line {self._long[0]}: quote values with {self.delimiter!r} in them"
            self.records.notices.append(Notice("rows longer than their header", len(self._long), detail))

    def _take_title(self) -> None:
        """Lines of one value above the header are a document of their own."""
        rows = self.rows
        width = max(len(values) for _, values in rows)
        above = next((place for place, (_, values) in enumerate(rows) if len(values) > 1), 0)
        if width > 2 and 0 < above <= 3:
            self.records.add(rows[0][0], {"text": "\n".join(values[0] for _, values in rows[:above])})
            self.rows = rows[above:]

    def _header(self) -> list[str]:
        """The names of the columns, each once; "column 3" for one without a name."""
        (_, given), below = self.rows[0], [values for _, values in self.rows[1:101]]
        names = [name.strip() for name in given]
        if any(_is_number(name) and _are_numbers(below, place) for place, name in enumerate(names)):
            self.records.notices.append(Notice("files without names of columns", 1, "its first row has numbers"))
            return [f"column {number}" for number in range(1, len(names) + 1)]
        self.rows = self.rows[1:]
        names = [name or f"column {number}" for number, name in enumerate(names, start=1)]
        if len(set(names)) < len(names):
            seen: dict[str, int] = {}
            for place, name in enumerate(names):
                seen[name] = seen.get(name, 0) + 1
                names[place] = name if seen[name] == 1 else f"{name} ({seen[name]})"
            repeated = sum(count - 1 for count in seen.values())
            self.records.notices.append(Notice("repeated names of columns", repeated, "each got a number"))
        return names

    def _fields(self, line: int, values: list[str]) -> dict[str, Any]:
        names = self.names
        extra = values[len(names) :]
        if any(value.strip() for value in extra):
            self._long.append(line)
            if names[-1] == "text":  # cut at a delimiter that is part of it
                values = [*values[: len(names) - 1], self.delimiter.join(values[len(names) - 1 :])]
            else:
                names = [*names, *(f"column {number}" for number in range(len(names) + 1, len(values) + 1))]
        fields: dict[str, Any] = {
            name: value
            for name, value in zip(names, values, strict=False)
            if value.strip() or not name.startswith("column ")
        }
        return fields if "text" in self.names else _row_fields(fields)


def _row_fields(fields: dict[str, Any]) -> dict[str, Any]:
    builder = DocumentBuilder()
    builder.items([f"{name}: {value}" for name, value in fields.items() if value.strip()])
    short = {name: value for name, value in fields.items() if len(value) <= _LONGEST_METADATA}
    return {**short, "text": builder.document().text}


def _is_number(value: str) -> bool:
    return bool(_NUMBER.fullmatch(value)) and not _YEAR.fullmatch(value)


def _are_numbers(rows: list[list[str]], place: int) -> bool:
    values = [row[place] for row in rows if place < len(row) and row[place].strip()]
    return bool(values) and all(map(_is_number, values))


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _RecordError(
            f"expected UTF-8; found other bytes at offset {error.start} of the line; save it as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _RecordError(f"expected one JSON object; found invalid JSON ({error}); correct the line") from error
    if not isinstance(value, dict):
        raise _RecordError(f"expected one JSON object; found a JSON {type(value).__name__}; correct the line")
    return value


def _document(line: int, fields: Mapping[str, Any]) -> Document:
    text, name, title = fields.get("text"), fields.get("id"), fields.get("title")
    if is_deep(fields):
        raise _RecordError(f"expected at most {MOST_LEVELS} levels of values; found more; flatten the record")
    if not isinstance(text, str) or not text.strip():
        raise _RecordError("expected a non-empty string under 'text'; found none; fill it or leave the record out")
    document = Document(
        text=text,
        id=str(line) if name is None or name == "" else _plain(name),
        title=" ".join(_plain(title).split()) if title is not None else "",
        metadata={key: _scalar(value) for key, value in fields.items() if key not in _OWN_KEYS},
    )
    _check_encodable(document)
    return document


def is_deep(value: Any) -> bool:
    """Whether a JSON value has more levels than ``MOST_LEVELS``."""
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _check_encodable(document: Document) -> None:
    """JSON can escape half of a surrogate pair, which cannot be written as UTF-8."""
    try:
        for part in (document.text, document.title, document.id or ""):
            part.encode()
        json.dumps(dict(document.metadata), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _RecordError("expected characters; found a lone surrogate; repair the \\u escapes") from error


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _scalar(value: Any) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else _plain(value)
