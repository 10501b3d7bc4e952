"""Rows by what people call them: passages by a filter, a document by its name, words by their letters."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mixrag.config.filters import Condition
from mixrag.corpus.store.sql import SqlStore, sources_named
from mixrag.corpus.store.sqlite import filters
from mixrag.utils.arrays import Rows


class LookUps(SqlStore):
    """Look-ups in SQLite's dialect."""

    def rows_meeting(self, filter_: Mapping[str, Sequence[Condition]]) -> Rows:
        """See ``Store.rows_meeting``."""
        found = filters.passages_where(filter_, self.query)
        return np.fromiter((row for (row,) in self.query(found.text, found.values)), np.int64)

    def document_row(self, path: str) -> int | None:
        """See ``Store.document_row``."""
        rows = self.query(
            "SELECT s.document_id FROM json_each(?) j JOIN files f ON f.path = json_extract(j.value, '$[0]')"
            " JOIN sources s ON s.file_id = f.id AND s.record = json_extract(j.value, '$[1]') ORDER BY j.key",
            (json.dumps(sources_named(path)),),
        )
        return int(rows[0][0]) if rows else None

    def term_ids(self, terms: Collection[str]) -> dict[str, int]:
        """See ``Store.term_ids``."""
        sql = "SELECT term, id FROM terms WHERE term IN (SELECT value FROM json_each(?))"
        return dict(self.query(sql, (json.dumps(list(terms)),)))
