"""Documents as a person sees them: the list of all, one by the name that the list gives it, and its text."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from mixrag.corpus.passage import Passage
from mixrag.corpus.store.records import DocumentRecord, Extent
from mixrag.corpus.store.sources import MEMORY, display, fallback_title, preferred
from mixrag.utils.arrays import Rows


class ContentQueries:
    """Queries for documents; ``SqliteStore`` supplies the connection."""

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
        """See ``Store.documents``."""
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
        """See ``Store.document_row``."""
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
        """See ``Store.files_of``."""
        sql = "SELECT DISTINCT path FROM sources JOIN files ON files.id = file_id WHERE document_id = ?"
        return sorted(path for (path,) in self.query(sql, (document,)) if path != MEMORY)

    def extent(self, document: int) -> Extent:
        """See ``Store.extent``."""
        sql = "SELECT count(*), max(page), coalesce(max(stop), 0) FROM passages WHERE document_id = ?"
        return Extent(*self.query(sql, (document,))[0])

    def passages_of(
        self, document: int, *, offset: int = 0, page: int | None = None, limit: int = 20
    ) -> list[Passage]:
        """See ``Store.passages_of``."""
        of_page = "" if page is None else " AND page = ?"
        values = (document, offset, *(() if page is None else (page,)), limit)
        with self.snapshot():
            rows = self.query(
                f"SELECT id FROM passages WHERE document_id = ? AND stop > ?{of_page} ORDER BY ordinal LIMIT ?",
                values,
            )
            return self.passages([row for (row,) in rows])

    def offset_before(self, document: int, offset: int, passages: int) -> int:
        """See ``Store.offset_before``."""
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
