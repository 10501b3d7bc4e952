"""What a document must be, and the documents in rows, tables and lists of texts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np

from mixrag.corpus.passage import Document, Scalar
from mixrag.errors import SourceError

_OWN_KEYS = frozenset({"text", "id", "title"})
_ABSENT: Any = object()
_INT_BITS = 10_000  # Python writes no longer ones as decimal digits


def checked(document: Document, shown: str, default_id: str | None = None) -> Document:
    """The document with plain Python values, whitespace in its title made single; ``shown`` names it in errors.

    An id may be a whole number; None and the empty string become ``default_id``. Numbers of numpy become Python's,
    metadata that are not a number become None, infinite ones text.

    Raises:
        SourceError: a blank text, a value of another type, a lone surrogate or a NUL character.
    """
    id_, metadata = _plain(document.id), document.metadata
    small = isinstance(id_, int) and not isinstance(id_, bool) and id_.bit_length() <= _INT_BITS
    if not (small or id_ is None or isinstance(id_, str)):
        raise SourceError(f"a string or a whole number as id of {shown}", _found(id_), "convert it")
    if id_ not in (None, ""):
        shown = f"{shown}, id {str(id_)[:100]!r}"
    for name, value in (("text", document.text), ("title", document.title)):
        if not isinstance(value, str):
            raise SourceError(f"a string as {name} of {shown}", _found(value), "convert it or leave it out")
    if not document.text.strip():
        raise SourceError(f"text in {shown}", "a blank one", "fill it or leave the document out")
    if not isinstance(metadata, Mapping):
        raise SourceError(f"a mapping as metadata of {shown}", _found(metadata), "give name: value pairs")
    found = replace(
        document,
        id=default_id if id_ is None or id_ == "" else str(id_),
        title=" ".join(document.title.split()),
        metadata={key: _scalar(key, value, shown) for key, value in metadata.items()},
    )
    _check_characters(found, shown)
    return found


def content_id(document: Document) -> str:
    """The id of a document that was given none: 32 hexadecimal digits of a hash of text, title and metadata."""
    content = [document.text, document.title, dict(document.metadata)]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:32]


def documents_in(given: Any) -> Iterator[Document]:
    """The documents, checked and each with an id, in an iterable of ``Document`` and rows, or in a DataFrame.

    A row is a mapping with "text", and "id" and "title" if it has them; its other keys are metadata. In a
    DataFrame (of pandas or polars) each row is one document, and a missing value is None.

    Raises:
        SourceError: what is given is none of these, or a document cannot be used; the message names it.
    """
    for number, each in enumerate(_rows(given), start=1):
        shown = f"document {number}"
        if isinstance(each, Mapping):
            each = _of_row(each, shown)
        if not isinstance(each, Document):
            raise SourceError("documents, or rows with the key 'text'", f"{_found(each)} as {shown}", "convert it")
        document = checked(each, shown)
        yield document if document.id else replace(document, id=content_id(document))


def documents_of_texts(texts: Any, ids: Any, titles: Any, metadata: Any) -> Iterator[Document]:
    """Documents of texts, and of as many ids, titles and metadata where those are given.

    Raises:
        SourceError: the texts are one string, or there are more or fewer of something than texts.
    """
    columns = {"texts": texts, "ids": ids, "titles": titles, "metadata": metadata}
    given = {name: column for name, column in columns.items() if name == "texts" or column is not None}
    for name, column in given.items():
        if isinstance(column, str | bytes | Mapping) or not isinstance(column, Iterable):
            raise SourceError(f"a list of {name}", _found(column), "put it into a list, one for each text")
    for values in zip_longest(*given.values(), fillvalue=_ABSENT):
        row = dict(zip(given, values, strict=True))
        if fewer := [name for name, value in row.items() if value is _ABSENT]:
            raise SourceError(
                "as many ids, titles and metadata as texts", f"fewer {fewer[0]}", "give one for each"
            )
        yield Document(row["texts"], row.get("ids"), row.get("titles") or "", row.get("metadata") or {})


def _rows(given: Any) -> Iterable[Any]:
    if hasattr(given, "to_dicts"):  # polars
        rows: Iterable[Any] = given.to_dicts()
        return rows
    if hasattr(given, "to_dict") and hasattr(given, "columns"):  # pandas
        rows = given.to_dict("records")
        return rows
    if isinstance(given, str | bytes | Mapping | Document) or not isinstance(given, Iterable):
        remedy = "put it into a list" if isinstance(given, Mapping | Document) else "for strings, call add_texts"
        raise SourceError("an iterable of documents or rows, or a DataFrame", _found(given), remedy)
    return given


def _of_row(row: Mapping[Any, Any], shown: str) -> Document:
    if "text" not in row:
        keys = ", ".join(map(repr, list(row)[:10])) or "none"
        raise SourceError(f"the key 'text' in {shown}", f"the keys {keys}", "rename the one with the text")
    title = _plain(row.get("title"))
    return Document(
        row["text"],
        _plain(row.get("id")),
        "" if title is None else title if isinstance(title, str) else str(title),
        {key: value for key, value in row.items() if key not in _OWN_KEYS},
    )


def _plain(value: Any) -> Any:
    """A value of numpy as Python's; None for a table's marker of a missing one."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    return None if type(value).__name__ in {"NAType", "NaTType"} else value


def _scalar(key: Any, value: Any, shown: str) -> Scalar:
    if not isinstance(key, str):
        raise SourceError(f"strings as metadata keys of {shown}", _found(key), "rename it")
    plain = _plain(value)
    if isinstance(plain, float) and math.isinf(plain):
        return str(plain)
    if isinstance(plain, int) and plain.bit_length() > _INT_BITS:
        raise SourceError(f"a number as metadata {key!r} of {shown}", "one of many digits", "give it as text")
    if plain is None or isinstance(plain, str | int | float):
        found: Scalar = plain
        return found
    expected = f"text, a number, true, false or None as metadata {key!r} of {shown}"
    raise SourceError(expected, _found(value), "convert it to text, or leave it out")


def _check_characters(document: Document, shown: str) -> None:
    strings = [("text", document.text), ("title", document.title), ("id", document.id or "")]
    for key, value in document.metadata.items():
        strings += [("metadata", key), ("metadata", value if isinstance(value, str) else "")]
    for name, string in strings:
        try:
            string.encode()
        except UnicodeEncodeError as error:
            found = f"a lone surrogate in its {name}"
            raise SourceError(f"characters of Unicode in {shown}", found, "decode its source as UTF-8") from error
        if "\0" in string:
            raise SourceError(f"text without NUL characters in {shown}", f"one in its {name}", "remove it")


def _found(value: Any) -> str:
    shown = repr(value)
    plain = len(shown) <= 60 and shown.isprintable() and not shown.startswith("<")
    return f"{type(value).__name__} {shown}" if plain else f"a value of type {type(value).__name__}"
