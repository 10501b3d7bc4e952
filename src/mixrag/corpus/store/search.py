"""Finding passages by metadata."""

from __future__ import annotations

import itertools
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixrag.corpus.passage import Scalar
from mixrag.corpus.store import filters
from mixrag.utils.arrays import Rows

_BLOCK = 256
"""Documents whose passages are read at once."""


class Stretch(NamedTuple):
    """A passage by its row id, with the place of its text in the document."""

    row: int
    start: int
    end: int
    text: str


class StoreQueries:
    """Queries over a store's passages; ``Store`` supplies the connection."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query."""

    def rows_where(self, where: Mapping[str, Any]) -> Rows:
        """Row ids (N,), ascending, of passages that meet all conditions (``config.filters``).

        ``document`` and ``file`` mean the source: its path, its last parts, a pattern with ``*`` and ``?``, with
        '#record' after it if wanted, or the id of a document from memory. ``title`` is the title, ``page`` the
        page where a passage starts. Other keys, and metadata of these names, are the document's metadata.

        Raises:
            SettingError: no condition.
        """
        found = filters.passages_where(where, self.query)
        return _rows(row for (row,) in self.query(found.text, found.values))

    def by_document(self) -> Iterator[list[Stretch]]:
        """The passages of each document in turn, in the order of its text; read in blocks of documents."""
        ids = [id_ for (id_,) in self.query("SELECT id FROM documents ORDER BY id")]
        for start in range(0, len(ids), _BLOCK):
            rows = self.query(
                "SELECT document_id, id, start, stop, text FROM passages WHERE document_id IN"
                " (SELECT value FROM json_each(?)) ORDER BY document_id, ordinal",
                (json.dumps(ids[start : start + _BLOCK]),),
            )
            for _, group in itertools.groupby(rows, key=lambda row: row[0]):
                yield [Stretch(*row[1:]) for row in group]


def scalar_text(value: Scalar) -> str:
    """A metadata value as the text that filters compare with."""
    return value if isinstance(value, str) else json.dumps(value)


def _rows(values: Iterable[int]) -> Rows:
    return np.fromiter(values, np.int64)
