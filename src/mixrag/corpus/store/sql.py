"""What a store in a SQL database is asked, in both dialects: settings, counts, passages, documents and words.

Queries have ``?`` for each parameter. The two dialects differ in how a column is compared with a list
(``among``, ``array``); what they can only do each in their own way is in their folders.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mixrag.corpus.parsers.result import Notice
from mixrag.corpus.passage import Passage
from mixrag.corpus.store.norms import norm_key
from mixrag.corpus.store.protocol import Store, TermIds
from mixrag.corpus.store.records import Counts, DocumentRecord, EncoderRecord, Extent, Stretch
from mixrag.corpus.store.sources import MEMORY, display, fallback_title, preferred
from mixrag.errors import StoreCorruptError, StoreError
from mixrag.utils.arrays import Rows

CONTENTS = (
    "SELECT d.id, d.hash, d.title, d.metadata, p.ordinal, p.text_hash, p.page, p.place, p.context,"
    " d.front_title FROM passages p JOIN documents d ON d.id = p.document_id ORDER BY p.id",
    "SELECT document_id, path, record FROM sources JOIN files ON files.id = file_id"
    " ORDER BY document_id, path, record",
)
"""Everything that ``Store.digest`` is of."""
_Found = TypeVar("_Found")
_DOCUMENTS, _PASSAGES = 256, 4096
"""Documents, and passages, that are read at once."""


def sources_named(path: str) -> list[tuple[str, str]]:
    """Path and record of what a document's name may mean, the most likely first; both may have a "#"."""
    marks = [place for place, letter in enumerate(path) if letter == "#"]
    files = [(path, ""), *((path[:at], path[at + 1 :]) for at in marks)]
    return [(MEMORY, path), *(each for each in files if each[0] != MEMORY)]


class SqlStore(Store):
    """Reads of a store whose tables are those of ``docs/reference/files.md``."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one SQL query, with ``?`` for each parameter.

        Raises:
            StoreError: the database could not answer; the subclass says why.
        """

    @staticmethod
    @abstractmethod
    def among(column: str) -> str:
        """A condition: the column is one of the numbers in a parameter made by ``array``."""

    @staticmethod
    @abstractmethod
    def array(numbers: Sequence[int]) -> Any:
        """Numbers as one parameter."""

    def meta(self, key: str) -> str | None:
        """Value of one setting of the store, or None."""
        rows = self.query("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    @property
    def generation(self) -> int:
        """See ``Store.generation``."""
        return int(self.meta("generation") or 0)

    @property
    def splitter(self) -> str | None:
        """See ``Store.splitter``."""
        return self.meta("splitter")

    @property
    def part(self) -> str | None:
        """See ``Store.part``."""
        return self.meta("part")

    @property
    def largest_norm(self) -> float | None:
        """See ``Store.largest_norm``."""
        with self.snapshot():
            encoder = self.encoder
            return None if encoder is None else self.number(norm_key(encoder.fingerprint))

    def number(self, key: str) -> float | None:
        """Value of one setting that is a number, or None."""
        found = self.meta(key)
        return None if found is None else float(found)

    @property
    def encoder_fingerprint(self) -> str | None:
        """See ``Store.encoder_fingerprint``."""
        return self.meta("encoder")

    @property
    def encoder(self) -> EncoderRecord | None:
        """See ``Store.encoder``."""
        rows = self.query(
            "SELECT name, fingerprint, dimension FROM encoders"
            " WHERE fingerprint = (SELECT value FROM meta WHERE key = 'encoder')"
        )
        return EncoderRecord(*rows[0]) if rows else None

    def counts(self) -> Counts:
        """See ``Store.counts``."""
        tables = ("documents", "passages", "sources")
        (row,) = self.query("SELECT " + ", ".join(f"(SELECT count(*) FROM {name})" for name in tables))
        return Counts(*row)

    # --- Passages ----------------------------------------------------------------------------------

    def passages(self, row_ids: Sequence[int] | Rows) -> list[Passage]:
        """See ``Store.passages``."""
        wanted = [int(row) for row in row_ids]
        with self.snapshot():
            rows = self.query(
                "SELECT p.id, d.id, d.hash, p.ordinal, p.text, d.title, p.start, p.stop, d.metadata, p.page,"
                " p.place, p.context, d.front_title FROM passages p JOIN documents d ON d.id = p.document_id"
                f" WHERE {self.among('p.id')}",
                (self.array(wanted),),
            )
            first = {id_: preferred(each) for id_, each in self._sources(sorted({row[1] for row in rows})).items()}
        return _in_order({row[0]: _passage(row, *first[row[1]]) for row in rows}, wanted)

    def marks(self) -> tuple[Rows, npt.NDArray[np.uint64]]:
        """See ``Store.marks``."""
        found = self.query("SELECT id, substr(text_hash, 1, 8) FROM passages ORDER BY id")
        return np.array([row for row, _ in found], np.int64), np.frombuffer(b"".join(m for _, m in found), "<u8")

    def text_hashes(self, row_ids: Sequence[int] | Rows) -> list[bytes]:
        """See ``Store.text_hashes``."""
        wanted = [int(row) for row in row_ids]
        sql = f"SELECT id, text_hash FROM passages WHERE {self.among('id')}"
        return _in_order(dict(self.query(sql, (self.array(wanted),))), wanted)

    def by_document(self) -> Iterator[list[Stretch]]:
        """See ``Store.by_document``."""
        with self.snapshot():
            ids = [id_ for (id_,) in self.query("SELECT id FROM documents ORDER BY id")]
            for start in range(0, len(ids), _DOCUMENTS):
                rows = self.query(
                    f"SELECT document_id, id, start, stop, text FROM passages WHERE {self.among('document_id')}"
                    " ORDER BY document_id, ordinal",
                    (self.array(ids[start : start + _DOCUMENTS]),),
                )
                for _, group in itertools.groupby(rows, key=lambda row: row[0]):
                    yield [Stretch(*row[1:]) for row in group]

    # --- Documents ---------------------------------------------------------------------------------

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

    def documents_digest(self) -> str:
        """See ``Store.documents_digest``."""
        rows = self.query("SELECT hash FROM documents ORDER BY hash")
        return hashlib.sha256("".join(f"{hash_}\n" for (hash_,) in rows).encode()).hexdigest()

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
        sql = f"SELECT id FROM passages WHERE document_id = ? AND stop > ?{of_page} ORDER BY ordinal LIMIT ?"
        with self.snapshot():
            return self.passages([row for (row,) in self.query(sql, values)])

    def offset_before(self, document: int, offset: int, passages: int) -> int:
        """See ``Store.offset_before``."""
        sql = "SELECT start FROM passages WHERE document_id = ? AND stop <= ? ORDER BY ordinal DESC LIMIT ?"
        rows = self.query(sql, (document, offset, passages))
        return int(rows[-1][0]) if rows else offset

    def notices(self, paths: Collection[str]) -> list[tuple[str, Notice]]:
        """See ``Store.notices``."""
        rows = self.query(
            "SELECT path, kind, count, detail FROM notices JOIN files ON files.id = file_id ORDER BY path, kind"
        )
        return [(path, Notice(*notice)) for path, *notice in rows if path in paths]

    def _sources(self, documents: Sequence[int] | None) -> dict[int, list[tuple[str, str]]]:
        """Path and record of all sources of each document (of all documents for None)."""
        chosen = "" if documents is None else f"WHERE {self.among('document_id')}"
        rows = self.query(
            f"SELECT document_id, path, record FROM sources JOIN files ON files.id = file_id {chosen}",
            () if documents is None else (self.array(documents),),
        )
        known: dict[int, list[tuple[str, str]]] = {}
        for id_, path, record in rows:
            known.setdefault(id_, []).append((path, record))
        return known

    # --- Words -------------------------------------------------------------------------------------

    def words(self, after: int = -1) -> Iterator[tuple[Rows, npt.NDArray[np.int64], TermIds]]:
        """See ``Store.words``."""
        sql = "SELECT id, words FROM passages WHERE id > ? ORDER BY id LIMIT ?"
        with self.snapshot():
            highest = int(self.query("SELECT coalesce(max(id), 0) FROM terms")[0][0])
            while block := self.query(sql, (after, _PASSAGES)):
                rows, blobs = zip(*block, strict=True)
                if lost := [row for row, blob in block if blob is None or len(blob) % 4]:
                    raise _damaged_words(f"no words of the passage in row {lost[0]}")
                ids = np.frombuffer(b"".join(blobs), "<u4")
                if ids.max(initial=0) > highest:
                    raise _damaged_words(f"the word {ids.max()} beside {highest} known ones")
                yield np.array(rows, np.int64), np.array([len(blob) // 4 for blob in blobs], np.int64), ids
                after = rows[-1]

    def term(self, id_: int) -> str:
        """See ``Store.term``."""
        found = self.query("SELECT term FROM terms WHERE id = ?", (id_,))
        return str(found[0][0]) if found else ""

    def terms(self) -> list[tuple[str, int]]:
        """See ``Store.terms``."""
        return [(term, id_) for term, id_ in self.query("SELECT term, id FROM terms ORDER BY id")]


def _in_order(found: dict[int, _Found], wanted: Sequence[int]) -> list[_Found]:
    if lost := [row for row in wanted if row not in found]:
        raise StoreError("passages of this store", f"no row {lost[0]}", "read the changed store again")
    return [found[row] for row in wanted]


def _passage(row: tuple[Any, ...], path: str, record: str) -> Passage:
    _, _, digest, ordinal, text, title, start, stop, metadata, page, place, context, front_title = row
    return Passage(
        id=f"{digest[:16]}:{ordinal}",
        text=text,
        document=display(path, record),
        title=title or fallback_title(path, record),
        start=start,
        end=stop,
        metadata=json.loads(metadata),
        page=page,
        place=place,
        context=context,
        front_title=front_title,
    )


def _damaged_words(found: str) -> StoreCorruptError:
    return StoreCorruptError(
        "a mixrag store with the words of its passages", found, "index again into a new store"
    )
