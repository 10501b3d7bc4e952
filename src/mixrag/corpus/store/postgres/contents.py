"""Documents as a person sees them: the list of all, one by the name that the list gives it, and its text."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from mixrag.corpus.passage import Passage
from mixrag.corpus.store.postgres.changes import key_of, set_meta
from mixrag.corpus.store.postgres.connections import Database
from mixrag.corpus.store.records import DocumentRecord, Extent, Stretch
from mixrag.corpus.store.sources import MEMORY, display, fallback_title, preferred
from mixrag.utils.arrays import Rows

_BLOCK = 256
"""Documents whose passages are read at once."""


class ContentQueries:
    """Queries for documents; ``PostgresStore`` supplies the connection."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Several reads of one state."""

    @abstractmethod
    def passages(self, row_ids: Sequence[int] | Rows) -> list[Passage]:
        """Passages of the row ids, in their order."""

    @abstractmethod
    def meta(self, key: str) -> str | None:
        """Value of one setting of the store, or None."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Database]:
        """Changes that are made all or not at all."""

    @property
    def part(self) -> str | None:
        """See ``Store.part``."""
        return self.meta("part")

    def claim_part(self, part: str) -> None:
        """See ``Store.claim_part``."""
        with self.transaction() as db:
            set_meta(db, "part", part)

    def documents(self) -> list[DocumentRecord]:
        """See ``Store.documents``."""
        with self.snapshot():
            known = self._sources(None)
            passages = dict(self.query("SELECT document_id, count(*) FROM passages GROUP BY document_id"))
            rows = self.query("SELECT id, title FROM documents")
        first = {id_: preferred(each) for id_, each in known.items()}
        records = (
            DocumentRecord(
                display(*first[id_]), title or fallback_title(*first[id_]), passages.get(id_, 0), len(known[id_])
            )
            for id_, title in rows
        )
        return sorted(records, key=lambda record: record.path)

    def document_row(self, path: str) -> int | None:
        """See ``Store.document_row``."""
        marks = [place for place, letter in enumerate(path) if letter == "#"]
        files = [(path, ""), *((path[:at], path[at + 1 :]) for at in marks)]
        sources = [(MEMORY, path), *(each for each in files if each[0] != MEMORY)]
        rows = self.query(
            "SELECT s.document_id FROM unnest(%s::bytea[], %s::bytea[]) WITH ORDINALITY j (path, record, n)"
            " JOIN files f ON f.key = j.path JOIN sources s ON s.file_id = f.id AND s.key = j.record ORDER BY j.n",
            ([key_of(each) for each, _ in sources], [key_of(record) for _, record in sources]),
        )
        return int(rows[0][0]) if rows else None

    def files_of(self, document: int) -> list[str]:
        """See ``Store.files_of``."""
        sql = "SELECT DISTINCT path FROM sources JOIN files ON files.id = file_id WHERE document_id = %s"
        return sorted(path for (path,) in self.query(sql, (document,)) if path != MEMORY)

    def extent(self, document: int) -> Extent:
        """See ``Store.extent``."""
        sql = "SELECT count(*), max(page), coalesce(max(stop), 0) FROM passages WHERE document_id = %s"
        return Extent(*self.query(sql, (document,))[0])

    def passages_of(
        self, document: int, *, offset: int = 0, page: int | None = None, limit: int = 20
    ) -> list[Passage]:
        """See ``Store.passages_of``."""
        of_page = "" if page is None else " AND page = %s"
        values = (document, offset, *(() if page is None else (page,)), limit)
        with self.snapshot():
            rows = self.query(
                f"SELECT id FROM passages WHERE document_id = %s AND stop > %s{of_page} ORDER BY ordinal LIMIT %s",
                values,
            )
            return self.passages([row for (row,) in rows])

    def offset_before(self, document: int, offset: int, passages: int) -> int:
        """See ``Store.offset_before``."""
        sql = "SELECT start FROM passages WHERE document_id = %s AND stop <= %s ORDER BY ordinal DESC LIMIT %s"
        rows = self.query(sql, (document, offset, passages))
        return int(rows[-1][0]) if rows else offset

    def by_document(self) -> Iterator[list[Stretch]]:
        """See ``Store.by_document``."""
        with self.snapshot():
            ids = [id_ for (id_,) in self.query("SELECT id FROM documents ORDER BY id")]
            for start in range(0, len(ids), _BLOCK):
                rows = self.query(
                    "SELECT document_id, id, start, stop, text FROM passages WHERE document_id = ANY(%s::bigint[])"
                    " ORDER BY document_id, ordinal",
                    (ids[start : start + _BLOCK],),
                )
                for _, group in itertools.groupby(rows, key=lambda row: row[0]):
                    yield [Stretch(*row[1:]) for row in group]

    def _first_sources(self, documents: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Path and record of the source to show of each document."""
        return {id_: preferred(each) for id_, each in self._sources(documents).items()}

    def _sources(self, documents: Sequence[int] | None) -> dict[int, list[tuple[str, str]]]:
        """Path and record of all sources of each document (of all documents for None)."""
        chosen = "" if documents is None else "WHERE document_id = ANY(%s::bigint[])"
        rows = self.query(
            f"SELECT document_id, path, record FROM sources JOIN files ON files.id = file_id {chosen}",
            () if documents is None else (list(documents),),
        )
        known: dict[int, list[tuple[str, str]]] = {}
        for id_, path, record in rows:
            known.setdefault(id_, []).append((path, record))
        return known
