"""Documents as a person sees them: the list of all, one by the name that the list gives it, and its text."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from mixrag.corpus.passage import Passage
from mixrag.corpus.store.sources import MEMORY, display, fallback_title, preferred
from mixrag.utils.arrays import Rows


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


class ContentQueries:
    """Queries for documents; ``Store`` supplies the connection."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Several reads of one state."""

    @abstractmethod
    def passages(self, row_ids: Sequence[int] | Rows) -> list[Passage]:
        """Passages of the row ids, in their order."""

    def documents(self) -> list[DocumentRecord]:
        """All documents, sorted by path."""
        with self.snapshot():
            first = self._first_sources(None)
            rows = self.query(
                "SELECT id, title, (SELECT count(*) FROM passages WHERE document_id = documents.id),"
                " (SELECT count(*) FROM sources WHERE document_id = documents.id) FROM documents"
            )
        records = (
            DocumentRecord(display(*first[id_]), title or fallback_title(*first[id_]), passages, sources)
            for id_, title, passages, sources in rows
        )
        return sorted(records, key=lambda record: record.path)

    def document_row(self, path: str) -> int | None:
        """Row id of the document with this source, written as ``DocumentRecord.path`` is; None where none has it.

        Nothing in it is a pattern, and no part of a path is enough.
        """
        marks = [place for place, letter in enumerate(path) if letter == "#"]
        files = [(path, ""), *((path[:at], path[at + 1 :]) for at in marks)]
        sources = [(MEMORY, path), *(each for each in files if each[0] != MEMORY)]
        rows = self.query(
            "SELECT s.document_id FROM json_each(?) j JOIN files f ON f.path = json_extract(j.value, '$[0]')"
            " JOIN sources s ON s.file_id = f.id AND s.record = json_extract(j.value, '$[1]') ORDER BY j.key",
            (json.dumps(sources),),
        )
        return int(rows[0][0]) if rows else None

    def files_of(self, document: int) -> list[str]:
        """The paths of all files that hold the document of a row id; none for a document from memory alone."""
        sql = "SELECT DISTINCT path FROM sources JOIN files ON files.id = file_id WHERE document_id = ?"
        return sorted(path for (path,) in self.query(sql, (document,)) if path != MEMORY)

    def extent(self, document: int) -> Extent:
        """How long the document of a row id is."""
        sql = "SELECT count(*), max(page), coalesce(max(stop), 0) FROM passages WHERE document_id = ?"
        return Extent(*self.query(sql, (document,))[0])

    def passages_of(
        self, document: int, *, offset: int = 0, page: int | None = None, limit: int = 20
    ) -> list[Passage]:
        """The passages of a document in the order of its text, from the one at this offset on.

        Args:
            document: row id.
            offset: of a character in the extracted text; those that end before it are left out.
            page: only passages that start on it.
            limit: at most so many.
        """
        of_page = "" if page is None else " AND page = ?"
        values = (document, offset, *(() if page is None else (page,)), limit)
        with self.snapshot():
            rows = self.query(
                f"SELECT id FROM passages WHERE document_id = ? AND stop > ?{of_page} ORDER BY ordinal LIMIT ?",
                values,
            )
            return self.passages([row for (row,) in rows])

    def offset_before(self, document: int, offset: int, passages: int) -> int:
        """Where the text begins that is so many passages before an offset, or the document's own beginning."""
        sql = "SELECT start FROM passages WHERE document_id = ? AND stop <= ? ORDER BY ordinal DESC LIMIT ?"
        rows = self.query(sql, (document, offset, passages))
        return int(rows[-1][0]) if rows else offset

    def _first_sources(self, document_ids: list[int] | None) -> dict[int, tuple[str, str]]:
        """Path and record of the source to show of each document (of all documents for None)."""
        chosen = "" if document_ids is None else "WHERE document_id IN (SELECT value FROM json_each(?))"
        rows = self.query(
            f"SELECT document_id, path, record FROM sources JOIN files ON files.id = file_id {chosen}",
            () if document_ids is None else (json.dumps(document_ids),),
        )
        known: dict[int, list[tuple[str, str]]] = {}
        for id_, path, record in rows:
            known.setdefault(id_, []).append((path, record))
        return {id_: preferred(each) for id_, each in known.items()}
