"""JSONL and CSV files: one Document a record, and a reason for each record left out."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from mixrag.corpus.parsers.result import ParseResult, Skipped, UnreadableError, decode
from mixrag.corpus.passage import Document, Scalar

_OWN_KEYS = frozenset({"id", "text", "title"})


class _RecordError(ValueError):
    """Why a record cannot be used."""


class _Records:
    """Documents and skipped records of one file, with ids that occur once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.documents: list[Document] = []
        self.skipped: list[Skipped] = []
        self.ids: set[str | None] = set()

    def add(self, line: int, fields: Mapping[str, Any]) -> None:
        """Take one record, or note why not."""
        try:
            document = _document(line, fields)
            if document.id in self.ids:
                raise _RecordError(f"expected an id of its own; found id {document.id!r} a second time; rename it")
        except _RecordError as error:
            self.skip(line, str(error))
        else:
            self.ids.add(document.id)
            self.documents.append(document)

    def skip(self, line: int, reason: str) -> None:
        self.skipped.append(Skipped(f"{self.name}:{line}", reason))

    def result(self) -> ParseResult:
        if not self.documents and not self.skipped:
            raise UnreadableError("a file with records", "no record", "fill it or leave it out")
        return ParseResult(tuple(self.documents), tuple(self.skipped))


def read_jsonl(data: bytes, name: str) -> ParseResult:
    """One Document a line: keys ``text`` (needed), ``id``, ``title``; the others are its metadata.

    Raises:
        UnreadableError: a NUL byte, or no line at all.
    """
    if (offset := data.find(b"\0")) >= 0:
        found = f"binary data (a NUL byte at offset {offset})"
        raise UnreadableError("JSON lines in UTF-8", found, "convert or rename it")
    records = _Records(name)
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            records.add(number, _json_object(line))
        except _RecordError as error:
            records.skip(number, str(error))
    return records.result()


def read_csv(data: bytes, name: str) -> ParseResult:
    """One Document a row, under a header row.

    With a ``text`` column a row reads as a JSONL record does; without one its text is a line
    "column: value" for each value.

    Raises:
        UnreadableError: not UTF-8 text, a repeated column name, or no row at all.
    """
    text = decode(data)
    records = _Records(name)
    with _long_fields(len(text)):
        rows = _csv_rows(text)
        _, columns = next(rows, (0, []))
        if len(set(columns)) < len(columns):
            raise UnreadableError("a header row of distinct names", f"{columns}"[:200], "rename its columns")
        for line, values in rows:
            if len(values) > len(columns):
                records.skip(
                    line, f"expected {len(columns)} values; found {len(values)}; quote values with commas"
                )
            else:
                records.add(line, _csv_fields(columns, values))
    return records.result()


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


def _csv_fields(columns: list[str], values: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = dict(zip(columns, values, strict=False))
    if "text" in columns:
        return fields
    lines = "\n".join(f"{column}: {value}" for column, value in fields.items() if value.strip())
    return {"text": lines, "id": fields.get("id"), "title": fields.get("title")}


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """First line number and values of each row that is not blank; the first row is the header."""
    header = text.lstrip().partition("\n")[0]
    # Spreadsheets in many countries write semicolons, and still call the file CSV.
    delimiter = max(",;\t", key=header.count)
    reader, line = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 1
    for row in reader:
        if any(value.strip() for value in row):
            yield line, row
        line = reader.line_num + 1


class _long_fields:
    """Lift the csv module's limit on the length of a value, which is global to the process."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __enter__(self) -> None:
        self.before = csv.field_size_limit(max(self.length, csv.field_size_limit()))

    def __exit__(self, *_: object) -> None:
        csv.field_size_limit(self.before)
