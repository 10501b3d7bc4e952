"""Rows by what people call them: a document by its name, words by their letters."""

from __future__ import annotations

from collections.abc import Collection

from mixrag.corpus.store.postgres.changes import key_of
from mixrag.corpus.store.postgres.terms import KNOWN
from mixrag.corpus.store.sql import SqlStore, sources_named


class LookUps(SqlStore):
    """Look-ups in PostgreSQL's dialect."""

    def document_row(self, path: str) -> int | None:
        """See ``Store.document_row``."""
        sources = sources_named(path)
        rows = self.query(
            "SELECT s.document_id FROM unnest(%s::bytea[], %s::bytea[]) WITH ORDINALITY j (path, record, n)"
            " JOIN files f ON f.key = j.path JOIN sources s ON s.file_id = f.id AND s.key = j.record ORDER BY j.n",
            ([key_of(each) for each, _ in sources], [key_of(record) for _, record in sources]),
        )
        return int(rows[0][0]) if rows else None

    def term_ids(self, terms: Collection[str]) -> dict[str, int]:
        """See ``Store.term_ids``."""
        return dict(self.query(KNOWN, (list(terms),)))
