"""Finding passages by metadata."""

from __future__ import annotations

import itertools
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mixrag.config.filters import Condition
from mixrag.corpus.store.records import Stretch
from mixrag.corpus.store.sqlite import filters
from mixrag.utils.arrays import Rows

_BLOCK = 256
"""Documents whose passages are read at once."""


class StoreQueries:
    """Queries over a store's passages; ``SqliteStore`` supplies the connection."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query."""

    def rows_meeting(self, filter_: Mapping[str, Sequence[Condition]]) -> Rows:
        """See ``Store.rows_meeting``."""
        found = filters.passages_where(filter_, self.query)
        return np.fromiter((row for (row,) in self.query(found.text, found.values)), np.int64)

    def by_document(self) -> Iterator[list[Stretch]]:
        """See ``Store.by_document``."""
        ids = [id_ for (id_,) in self.query("SELECT id FROM documents ORDER BY id")]
        for start in range(0, len(ids), _BLOCK):
            rows = self.query(
                "SELECT document_id, id, start, stop, text FROM passages WHERE document_id IN"
                " (SELECT value FROM json_each(?)) ORDER BY document_id, ordinal",
                (json.dumps(ids[start : start + _BLOCK]),),
            )
            for _, group in itertools.groupby(rows, key=lambda row: row[0]):
                yield [Stretch(*row[1:]) for row in group]
