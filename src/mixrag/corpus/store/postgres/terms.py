"""The words of passages: numbers of words in the table ``terms``, a row of them for each passage in ``words``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.corpus.passage import searched_text
from mixrag.corpus.store.postgres.connections import Database
from mixrag.corpus.store.prepared import SplitDocument
from mixrag.corpus.store.protocol import TermIds
from mixrag.corpus.words import words
from mixrag.errors import StoreCorruptError
from mixrag.utils.arrays import Rows

_BLOCK = 4096
_KNOWN = "SELECT t.term, t.id FROM unnest(%s::text[]) u JOIN terms t ON t.term = u"


def numbered_words(db: Database, splits: Sequence[SplitDocument]) -> Iterator[bytes]:
    """The words of each passage of the documents as the column ``words`` has them; inside a transaction."""
    found = [words(searched_text(s.front_title, p.context, p.text)) for s in splits for p in s.passages]
    distinct = list(dict.fromkeys(chain.from_iterable(found)))
    ids: dict[str, int] = dict(db.execute(_KNOWN, (distinct,)).fetchall())
    if new := [word for word in distinct if word not in ids]:
        # Only new ones: a conflict would use a number up.
        query = "INSERT INTO terms (term) SELECT u FROM unnest(%s::text[]) WITH ORDINALITY v (u, n) ORDER BY n"
        ids |= dict(db.execute(f"{query} RETURNING term, id", (new,)).fetchall())
    return (np.fromiter(map(ids.__getitem__, each), "<u4", len(each)).tobytes() for each in found)


class TermQueries:
    """Queries over the words of a store; ``PostgresStore`` supplies the connection."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Several reads of one state."""

    def words(self, after: int = -1) -> Iterator[tuple[Rows, npt.NDArray[np.int64], TermIds]]:
        """See ``Store.words``."""
        sql = "SELECT id, words FROM passages WHERE id > %s ORDER BY id LIMIT %s"
        with self.snapshot():
            highest = int(self.query("SELECT coalesce(max(id), 0) FROM terms")[0][0])
            while block := self.query(sql, (after, _BLOCK)):
                rows, blobs = zip(*block, strict=True)
                if lost := [row for row, blob in block if len(blob) % 4]:
                    raise _damaged(f"no words of the passage in row {lost[0]}")
                ids = np.frombuffer(b"".join(blobs), "<u4")
                if ids.max(initial=0) > highest:
                    raise _damaged(f"the word {ids.max()} beside {highest} known ones")
                yield np.array(rows, np.int64), np.array([len(blob) // 4 for blob in blobs], np.int64), ids
                after = rows[-1]

    def term_ids(self, terms: Collection[str]) -> dict[str, int]:
        """See ``Store.term_ids``."""
        return dict(self.query(_KNOWN, (list(terms),)))

    def term(self, id_: int) -> str:
        """See ``Store.term``."""
        found = self.query("SELECT term FROM terms WHERE id = %s", (id_,))
        return str(found[0][0]) if found else ""

    def terms(self) -> list[tuple[str, int]]:
        """See ``Store.terms``."""
        return [(term, id_) for term, id_ in self.query("SELECT term, id FROM terms ORDER BY id")]


def _damaged(found: str) -> StoreCorruptError:
    return StoreCorruptError(
        "a mixrag store with the words of its passages", found, "index again into a new store"
    )
