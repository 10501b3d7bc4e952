"""The words of passages: numbers of words in the table ``terms``, a row of them for each passage in ``words``."""

from __future__ import annotations

import json
import sqlite3
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.corpus.passage import searched_text
from mixrag.corpus.store.protocol import TermIds
from mixrag.corpus.words import words
from mixrag.errors import StoreCorruptError
from mixrag.utils.arrays import Rows

_BLOCK = 4096


def count_words(db: sqlite3.Connection) -> None:
    """Store the words of every passage that has none yet; inside a transaction of the caller.

    Numbers of words are never given twice, so those of one transaction stay right in every other.
    """
    sql = (
        "SELECT p.id, d.front_title, p.context, p.text FROM passages p JOIN documents d ON d.id = p.document_id"
        " WHERE p.words IS NULL AND p.id > ? ORDER BY p.id LIMIT ?"
    )
    last = -1
    while block := db.execute(sql, (last, _BLOCK)).fetchall():
        _store_words(db, {row: words(searched_text(*parts)) for row, *parts in block})
        last = block[-1][0]


def count_document(db: sqlite3.Connection, document_id: int, front_title: str) -> None:
    """Store the words of a new document's passages, before which this title is read; inside a transaction."""
    rows = db.execute("SELECT id, context, text FROM passages WHERE document_id = ?", (document_id,))
    _store_words(db, {row: words(searched_text(front_title, *parts)) for row, *parts in rows})


def _store_words(db: sqlite3.Connection, found: dict[int, list[str]]) -> None:
    distinct = json.dumps(list(dict.fromkeys(chain.from_iterable(found.values()))))
    db.execute("INSERT OR IGNORE INTO terms (term) SELECT value FROM json_each(?)", (distinct,))
    sql = "SELECT term, id FROM terms WHERE term IN (SELECT value FROM json_each(?))"
    ids = dict(db.execute(sql, (distinct,)).fetchall())
    rows = (
        (np.fromiter(map(ids.__getitem__, each), "<u4", len(each)).tobytes(), row) for row, each in found.items()
    )
    db.executemany("UPDATE passages SET words = ? WHERE id = ?", rows)


class TermQueries:
    """Queries over the words of a store; ``SqliteStore`` supplies the connection."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query."""

    def words(self, after: int = -1) -> Iterator[tuple[Rows, npt.NDArray[np.int64], TermIds]]:
        """See ``Store.words``."""
        highest = self.highest_term
        sql = "SELECT id, words FROM passages WHERE id > ? ORDER BY id LIMIT ?"
        while block := self.query(sql, (after, _BLOCK)):
            rows, blobs = zip(*block, strict=True)
            if lost := [row for row, blob in block if blob is None or len(blob) % 4]:
                raise _damaged(f"no words of the passage in row {lost[0]}")
            ids = np.frombuffer(b"".join(blobs), "<u4")
            if ids.max(initial=0) > highest:
                raise _damaged(f"the word {ids.max()} beside {highest} known ones")
            yield np.array(rows, np.int64), np.array([len(blob) // 4 for blob in blobs], np.int64), ids
            after = rows[-1]

    @property
    def highest_term(self) -> int:
        """Highest number of a word; 0 where there is none."""
        return int(self.query("SELECT coalesce(max(id), 0) FROM terms")[0][0])

    def term_ids(self, terms: Collection[str]) -> dict[str, int]:
        """See ``Store.term_ids``."""
        sql = "SELECT term, id FROM terms WHERE term IN (SELECT value FROM json_each(?))"
        return dict(self.query(sql, (json.dumps(list(terms)),)))

    def term(self, id_: int) -> str:
        """See ``Store.term``."""
        found = self.query("SELECT term FROM terms WHERE id = ?", (id_,))
        return str(found[0][0]) if found else ""

    def terms(self) -> list[tuple[str, int]]:
        """See ``Store.terms``."""
        return [(term, id_) for term, id_ in self.query("SELECT term, id FROM terms ORDER BY id")]


def _damaged(found: str) -> StoreCorruptError:
    return StoreCorruptError(
        "a mixrag store with the words of its passages", found, "index again into a new store"
    )
