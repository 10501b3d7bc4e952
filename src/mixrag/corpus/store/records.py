"""What a store says about what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is in the store."""

    documents: int
    """Distinct contents."""
    passages: int
    sources: int
    """Files, records and documents from memory; several may share one content."""


@dataclass(frozen=True, slots=True)
class EncoderRecord:
    """The encoder that made the vectors in the store."""

    name: str
    fingerprint: str
    dimension: int


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """One line of the list of documents."""

    path: str
    """First source in sorted order that exists: its path, with '#record' appended for a record; or the id of a
    document from memory."""
    title: str
    passages: int
    sources: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How long a document is."""

    passages: int
    pages: int | None
    """The last page on which a passage starts; None where the source has no pages."""
    characters: int
    """Offset after the last passage, in the extracted text."""


class Stretch(NamedTuple):
    """A passage by its row id, with the place of its text in the document."""

    row: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Removed:
    """How much a removal deleted."""

    sources: int
    """Files, records and documents from memory."""
    documents: int
    """Distinct contents that no other source has."""
    passages: int
