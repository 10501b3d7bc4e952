"""What reading a file gives: documents, what was left out, and one error for whatever cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

from mixrag.corpus.passage import Document
from mixrag.errors import SourceError

OTHER_FORMAT = "files of another format than their name says"
"""The kind of a notice."""


class UnreadableError(SourceError):
    """A file must be skipped; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, folder or record that was left out."""

    path: str
    """Absolute path; ':LINE' is appended for a record of a JSONL or CSV file."""
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something of a file that was read only in part, or not as it stands: the report counts them by kind."""

    kind: str
    """A few plain words that are the same for all files, in the plural: "pages without text", "images",
    "comments", "page headers and footers", "guessed encodings"."""
    count: int
    """How many of them in this file."""
    detail: str = ""
    """One line for people, with the remedy: "4 of 6 pages have no text; OCR: pip install mixrag[ocr]"."""


@dataclass(frozen=True, slots=True)
class ParseResult:
    """What a parser found in one file."""

    documents: tuple[Document, ...]
    skipped: tuple[Skipped, ...] = ()
    """Records of the file that could not be used."""
    notices: tuple[Notice, ...] = ()
    """What was left out of the documents, or read by a guess."""
