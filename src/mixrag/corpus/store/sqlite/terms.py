"""The words of passages: numbers of words in the table ``terms``, a row of them for each passage in ``words``."""

from __future__ import annotations

import json
import sqlite3
from itertools import chain

import numpy as np

from mixrag.corpus.passage import searched_text
from mixrag.corpus.words import words

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
