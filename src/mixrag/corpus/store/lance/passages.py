"""Reading passages, their hashes and their words."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.config.filters import Condition
from mixrag.corpus.passage import Passage
from mixrag.corpus.store.lance.base import LanceBase
from mixrag.corpus.store.lance.catalogue import Catalogue
from mixrag.corpus.store.matching import documents_meeting
from mixrag.corpus.store.protocol import TermIds
from mixrag.corpus.store.records import Stretch
from mixrag.corpus.store.sources import display, fallback_title, preferred
from mixrag.errors import StoreCorruptError, StoreError
from mixrag.utils.arrays import Rows

_COLUMNS = ("row", "document", "ordinal", "start", "stop", "text", "page", "place", "context")
_TERMS = 4096


class PassageReads(LanceBase):
    """See ``Store``."""

    def passages(self, row_ids: Sequence[int] | Rows) -> list[Passage]:
        """See ``Store.passages``."""
        now, wanted = self.now, np.asarray(row_ids, np.int64)
        found = {
            row: _passage(now, document, *values)
            for row, document, *values in self._taken(now, wanted, _COLUMNS).rows()
        }
        return [found[row] for row in wanted.tolist()]

    def text_hashes(self, row_ids: Sequence[int] | Rows) -> list[bytes]:
        """See ``Store.text_hashes``."""
        wanted = np.asarray(row_ids, np.int64)
        found = dict(self._taken(self.now, wanted, ("row", "text_hash")).rows())
        return [found[row] for row in wanted.tolist()]

    def marks(self) -> tuple[Rows, npt.NDArray[np.uint64]]:
        """See ``Store.marks``."""
        now = self.now
        hashes = self.hashes(now)
        if not len(hashes):
            return np.empty(0, np.int64), np.empty(0, np.uint64)
        bytes_ = np.frombuffer(hashes.buffers()[1], np.uint8)
        bytes_ = bytes_[32 * hashes.offset : 32 * (hashes.offset + len(hashes))].reshape(-1, 32)
        return now.layout.rows, np.ascontiguousarray(bytes_[:, :8]).view("<u8")[:, 0].astype(np.uint64)

    def hashes(self, now: Catalogue) -> Any:
        """The hashes of what was embedded for all passages (M,), in their order, as an array of pyarrow."""
        column = self.tables.column(self.passage_table(now), "text_hash")["text_hash"]
        found = column.chunk(0) if column.num_chunks else column.combine_chunks()
        if len(found) != len(now.layout.rows):
            raise self.damaged(f"{len(found)} passages in its table instead of {len(now.layout.rows)}")
        return found

    def rows_meeting(self, filter_: Mapping[str, Sequence[Condition]]) -> Rows:
        """See ``Store.rows_meeting``; documents are in memory, so Python says which of them are meant."""
        now = self.now
        if not filter_:
            return now.layout.rows
        met = documents_meeting(filter_, now.described)
        layout = now.layout
        of_rows = layout.document(np.arange(len(layout.rows)))
        chosen = np.isin(of_rows, np.fromiter(met, np.int64, len(met)))
        if "page" in filter_ and chosen.any():
            pages = self._pages(now)
            for place in np.flatnonzero(chosen).tolist():
                chosen[place] = met[int(of_rows[place])](pages[place])
        return layout.rows[chosen]

    def _pages(self, now: Catalogue) -> list[int | None]:
        found: list[int | None] = self.tables.column(self.passage_table(now), "page")["page"].to_pylist()
        return found

    def by_document(self) -> Iterator[list[Stretch]]:
        """See ``Store.by_document``."""
        with self.snapshot():
            now = self.now
        columns = ("document", "row", "start", "stop", "text")
        current, found = -1, list[Stretch]()
        for batch in self.tables.scan(self.passage_table(now), columns):
            for document, *stretch in _rows(batch, columns):
                if document != current:
                    if found:
                        yield found
                    current, found = document, []
                found.append(Stretch(*stretch))
        if found:
            yield found

    def digest(self) -> str:
        """See ``Store.digest``."""
        now, found = self.now, hashlib.sha256()
        columns = ("document", "ordinal", "text_hash", "page", "place", "context")
        for batch in self.tables.scan(self.passage_table(now), columns):
            for document, *values in _rows(batch, columns):
                each = now.documents[document]
                line = (document, each.hash, each.title, each.metadata, *values, each.front_title)
                found.update(f"{line!r}\n".encode("utf-8", "surrogatepass"))
        for document, sources in sorted(now.sources_of.items()):
            found.update(f"{document} {sorted(sources)!r}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    # --- Words -------------------------------------------------------------------------------------

    def words(self, after: int = -1) -> Iterator[tuple[Rows, npt.NDArray[np.int64], TermIds]]:
        """See ``Store.words``."""
        now = self.now
        highest = len(now.terms)
        for batch in self.tables.scan(self.passage_table(now), ("row", "words"), f"row > {int(after)}"):
            rows, blobs = np.asarray(batch["row"], np.int64), batch["words"].to_pylist()
            if any(len(blob) % 4 for blob in blobs):
                raise self.damaged("words that are no numbers")
            ids = np.frombuffer(b"".join(blobs), "<u4")
            if ids.max(initial=0) > highest:
                raise self.damaged(f"the word {ids.max()} beside {highest} known ones")
            if len(rows):
                yield rows, np.array([len(blob) // 4 for blob in blobs], np.int64), ids

    def term_ids(self, terms: Collection[str]) -> dict[str, int]:
        """See ``Store.term_ids``."""
        numbers = self.now.numbers
        return {term: numbers[term] for term in terms if term in numbers}

    def term(self, id_: int) -> str:
        """See ``Store.term``."""
        terms = self.now.terms
        return terms[id_ - 1] if 0 < id_ <= len(terms) else ""

    def terms(self) -> list[tuple[str, int]]:
        """See ``Store.terms``."""
        return [(term, number) for number, term in enumerate(self.now.terms, 1)]

    # --- Rows of the table -------------------------------------------------------------------------

    def _taken(self, now: Catalogue, rows: Rows, columns: tuple[str, ...]) -> _Taken:
        """These columns, "row" first, of passages that must be there, each once."""
        offsets = now.layout.offsets(rows)
        if (offsets < 0).any():
            lost = rows[int((offsets < 0).argmax())]
            raise StoreError("passages of this store", f"no row {lost}", "read the changed store again")
        if not len(rows):
            return _Taken(None, columns)
        wanted = np.unique(offsets)
        found = self.tables.take(self.passage_table(now), wanted, columns)
        if not np.array_equal(np.asarray(found["row"], np.int64), now.layout.rows[wanted]):
            raise self.damaged("other passages in its table than it lists")
        return _Taken(found, columns)

    def damaged(self, found: str) -> StoreCorruptError:
        """Its parts do not fit together."""
        return StoreCorruptError(f"a mixrag store in {self.name}", found, "index again into a new store")


class _Taken:
    """Some rows of a table of pyarrow, or none."""

    def __init__(self, table: Any, columns: tuple[str, ...]) -> None:
        self.table, self.columns = table, columns

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Their values, as Python has them."""
        return iter(()) if self.table is None else _rows(self.table, self.columns)


def _rows(table: Any, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in columns), strict=True)


def _passage(
    now: Catalogue,
    document: int,
    ordinal: int,
    start: int,
    stop: int,
    text: str,
    page: int | None,
    place: str,
    context: str,
) -> Passage:
    each, (path, record) = now.documents[document], preferred(now.sources_of[document])
    return Passage(
        id=f"{each.hash[:16]}:{ordinal}",
        text=text,
        document=display(path, record),
        title=each.title or fallback_title(path, record),
        start=start,
        end=stop,
        metadata=each.values,
        page=page,
        place=place,
        context=context,
        front_title=each.front_title,
    )
