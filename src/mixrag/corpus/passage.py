"""Document and Passage: what goes into a store, and the unit that the mixture runs over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Scalar = str | int | float | bool | None
"""A metadata value: what JSON can express without nesting."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its title and metadata: what parsers return, and what ``RAG.add`` takes.

    >>> Document("A licence costs nine crowns.", id="fees-7", title="Fees", metadata={"year": 2024}).id
    'fees-7'
    """

    text: str
    id: str | None = None
    """Names the document within its source: the record of a file, or the document that ``RAG.add`` takes, where
    adding the same id again updates it. None: the file is one document; ``RAG.add`` derives one from the content.
    """
    title: str = ""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document: the unit that is retrieved, weighted and conditioned on."""

    id: str
    """Stable over re-indexing: content hash of the document, colon, ordinal."""
    text: str
    document: str
    """Absolute path of the source, with '#id' appended for a record of a file; the id alone of a document that was
    added from memory. Of several sources with the same content, the first in sorted order."""
    title: str
    start: int
    """Offset of the first character in the document's extracted text."""
    end: int
    """Offset after the last character: ``extracted[start:end] == text``."""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
