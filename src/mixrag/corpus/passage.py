"""Document and Passage: what readers return, and what the mixture runs over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Scalar = str | int | float | bool | None
"""A metadata value: what JSON can hold without nesting."""


@dataclass(frozen=True, slots=True)
class Document:
    """The extracted text of one file, or of one record of a JSONL or CSV file."""

    text: str
    title: str
    record: str = ""
    """Identifier of the record inside its file; empty where the file is one document."""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document: the unit that is retrieved, weighted and conditioned on."""

    id: str
    """Stable over re-indexing: content hash of the document, colon, ordinal."""
    text: str
    document: str
    """Absolute path of the source; '#record' is appended for a record of a JSONL or CSV file."""
    title: str
    start: int
    """Offset of the first character in the document's extracted text."""
    end: int
    """Offset behind the last character: ``extracted[start:end] == text``."""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
