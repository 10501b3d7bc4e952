"""Finding passages by metadata."""

from __future__ import annotations

import fnmatch
import itertools
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixrag.corpus.passage import Scalar
from mixrag.corpus.store import sources
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

    def rows_where(self, filters: Mapping[str, str]) -> Rows:
        """Row ids (N,), ascending, of the passages whose document meets every filter.

        A filter compares a metadata value, as text (``true``, ``null`` and numbers as JSON writes them).
        ``title`` compares the title; ``document`` the source: its path, file name, or a pattern with
        ``*`` and ``?``, each with '#record' appended if wanted; or the id of a document from memory.
        """
        wanted: set[int] | None = None
        for key, value in filters.items():
            matching = self._documents_where(key, value)
            wanted = matching if wanted is None else wanted & matching
        if wanted is None:
            return _rows(row for (row,) in self.query("SELECT id FROM passages ORDER BY id"))
        sql = "SELECT id FROM passages WHERE document_id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return _rows(row for (row,) in self.query(sql, (json.dumps(sorted(wanted)),)))

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

    def _documents_where(self, key: str, value: str) -> set[int]:
        if key == "document":
            return self._documents_at(value)
        if key == "title":
            return self._documents_titled(value)
        sql = "SELECT document_id FROM metadata WHERE key = ? AND value = ?"
        return {id_ for (id_,) in self.query(sql, (key, value))}

    def _documents_titled(self, title: str) -> set[int]:
        titled = self.query("SELECT id FROM documents WHERE title = ?", (title,))
        untitled = self.query(
            "SELECT document_id, min(path), record FROM sources JOIN files ON files.id = file_id"
            " JOIN documents ON documents.id = document_id WHERE title = '' GROUP BY document_id"
        )
        shown = {id_ for id_, path, record in untitled if sources.fallback_title(path, record) == title}
        return {id_ for (id_,) in titled} | shown

    def _documents_at(self, name: str) -> set[int]:
        files = self.query("SELECT id, path FROM files WHERE path != ?", (sources.MEMORY,))
        exact = [id_ for id_, path in files if path == name]
        chosen = exact or [id_ for id_, path in files if sources.names_file(name, path)]
        sql = "SELECT document_id FROM sources WHERE file_id IN (SELECT value FROM json_each(?))"
        found = {id_ for (id_,) in self.query(sql, (json.dumps(chosen),))}
        return found | self._documents_of_record(name) | self._documents_in_memory(name)

    def _documents_of_record(self, name: str) -> set[int]:
        if "#" not in name:
            return set()
        found = self.query(
            "SELECT document_id, path, record FROM sources JOIN files ON files.id = file_id"
            " WHERE record != '' AND path != ?",
            (sources.MEMORY,),
        )
        return {
            id_
            for id_, path, record in found
            if name.endswith(f"#{record}") and sources.names_file(name.removesuffix(f"#{record}"), path)
        }

    def _documents_in_memory(self, name: str) -> set[int]:
        sql = "SELECT document_id, record FROM sources JOIN files ON files.id = file_id WHERE path = ?"
        exact = {id_ for id_, _ in self.query(f"{sql} AND record = ?", (sources.MEMORY, name))}
        if exact or not set(name) & set("*?["):
            return exact
        return {id_ for id_, record in self.query(sql, (sources.MEMORY,)) if fnmatch.fnmatchcase(record, name)}


def scalar_text(value: Scalar) -> str:
    """A metadata value as the text that filters compare with."""
    return value if isinstance(value, str) else json.dumps(value)


def _rows(values: Iterable[int]) -> Rows:
    return np.fromiter(values, np.int64)
