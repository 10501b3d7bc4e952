"""What a store knows but for texts and vectors: files, documents, where their passages are, words; in memory.

A catalogue is one state of the store. It changes by operations, which are lists that JSON can express; a commit
is the operations of one transaction (``log``), and replaying all of them gives the catalogue again. The passages
of a document have consecutive row ids, so a document says where its passages are, and the rows of all passages, in
their order, are known without reading any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixrag.corpus.parsers.result import Notice
from mixrag.corpus.passage import Scalar
from mixrag.corpus.store.matching import Described
from mixrag.utils.arrays import Rows

Operation = list[Any]
Source = tuple[str, str]
"""Path and record."""


class File(NamedTuple):
    """A stored file; that of all documents from memory has no hash and no splitter."""

    sha256: str
    splitter: str
    notices: tuple[Notice, ...] = ()


class Stored(NamedTuple):
    """A document, and where its passages are."""

    hash: str
    title: str
    metadata: str
    """JSON."""
    front_title: str
    first: int
    """Row id of its first passage; the others follow."""
    passages: int
    pages: int | None
    """The last page on which a passage starts."""
    characters: int
    """Offset after the last passage."""

    @property
    def values(self) -> dict[str, Scalar]:
        """The metadata."""
        return json.loads(self.metadata)  # type: ignore[no-any-return]


class Table(NamedTuple):
    """The vectors of an encoder."""

    name: str
    """Of the encoder."""
    dimension: int
    table: str
    version: int


@dataclass(frozen=True)
class Layout:
    """Where the passages of all documents are, ascending."""

    documents: npt.NDArray[np.int64]
    """(N,) ids of the documents that have passages."""
    first: npt.NDArray[np.int64]
    """(N,) row id of the first passage of each."""
    offset: npt.NDArray[np.int64]
    """(N + 1,) how many passages are before those of each."""

    @cached_property
    def rows(self) -> Rows:
        """(M,) row ids of all passages."""
        sizes = np.diff(self.offset)
        return np.arange(self.offset[-1]) + np.repeat(self.first - self.offset[:-1], sizes)

    def offsets(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Of row ids (K,), how many passages are before each; -1 where there is no such passage."""
        if not len(self.first):
            return np.full(len(rows), -1)
        place = np.maximum(np.searchsorted(self.first, rows, side="right") - 1, 0)
        inside = rows - self.first[place]
        known = (inside >= 0) & (inside < np.diff(self.offset)[place])
        return np.where(known, self.offset[place] + inside, -1)

    def document(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(K,) ids of the documents of passages that have so many (K,) before them."""
        return self.documents[np.searchsorted(self.offset, offsets, side="right") - 1]


class Catalogue:
    """One state; it is not changed after others have seen it (``draft``)."""

    def __init__(self) -> None:
        self.number = 0
        """Of the commit that made it."""
        self.settings: dict[str, Any] = {}
        """Version, identity, generation, splitter, encoder, counters, and versions of tables."""
        self.files: dict[str, File] = {}
        self.documents: dict[int, Stored] = {}
        self.sources: dict[Source, int] = {}
        self.terms: list[str] = []
        """Words; the number of a word is its place, from 1."""
        self.numbers: dict[str, int] = {}
        """Of words."""
        self.by_hash: dict[str, int] = {}
        self.sources_of: dict[int, tuple[Source, ...]] = {}
        self.records: dict[str, dict[str, int]] = {}
        """Of each file, its records and their documents."""
        self._own: set[str] = set()
        """Files whose records are not shared with another catalogue."""

    def draft(self) -> Catalogue:
        """The next state, which can be changed without changing this one."""
        new = copy(self)
        for derived in ("layout", "described"):
            new.__dict__.pop(derived, None)
        for name, value in vars(self).items():
            if isinstance(value, dict | list) and name in new.__dict__:
                setattr(new, name, value.copy())
        new.number, new._own = self.number + 1, set()
        return new

    def following(self) -> Catalogue:
        """The same state as that of the next commit."""
        new = copy(self)
        new.number = self.number + 1
        return new

    @cached_property
    def layout(self) -> Layout:
        """Where passages are; of a catalogue that does not change any more."""
        having = {id_: each for id_, each in self.documents.items() if each.passages}
        sizes = np.fromiter((each.passages for each in having.values()), np.int64, len(having))
        first = np.fromiter((each.first for each in having.values()), np.int64, len(having))
        return Layout(np.fromiter(having, np.int64, len(having)), first, np.concatenate([[0], np.cumsum(sizes)]))

    def apply(self, operation: Operation) -> None:
        """Make one change."""
        kind, *values = operation
        _CHANGES[kind](self, *values)

    def operations(self) -> Iterator[Operation]:
        """What makes this state of an empty catalogue."""
        yield ["settings", self.settings]
        yield ["terms", self.terms]
        for path, file in self.files.items():
            yield ["file", path, file.sha256, file.splitter, [list(_plain(each)) for each in file.notices]]
        for id_, each in self.documents.items():
            yield ["document", id_, *each]
        for (path, record), id_ in self.sources.items():
            yield ["source", path, record, id_]

    @cached_property
    def described(self) -> dict[int, Described]:
        """What filters ask of all documents."""
        return {id_: Described(d.title, d.values, self.sources_of[id_]) for id_, d in self.documents.items()}

    def table(self, fingerprint: str | None) -> Table | None:
        """Where the vectors of an encoder are; None where it has none."""
        found = self.settings["encoders"].get(fingerprint)
        return None if found is None else Table(*found)

    # --- Changes -----------------------------------------------------------------------------------

    def _set(self, values: dict[str, Any]) -> None:
        self.settings.update(values)

    def _add_terms(self, terms: Sequence[str]) -> None:
        for number, term in enumerate(terms, len(self.terms) + 1):
            self.numbers[term] = number
        self.terms.extend(terms)

    def _put_file(self, path: str, sha256: str, splitter: str, notices: Sequence[Sequence[Any]] = ()) -> None:
        self.files[path] = File(sha256, splitter, tuple(Notice(*each) for each in notices))

    def _drop_file(self, path: str) -> None:
        for record in list(self.records.get(path, ())):
            self._drop_source(path, record)
        del self.files[path]

    def _put_document(self, id_: int, *values: Any) -> None:
        self.documents[id_] = stored = Stored(*values)
        self.by_hash[stored.hash] = id_
        self.sources_of.setdefault(id_, ())

    def _drop_document(self, id_: int) -> None:
        del self.by_hash[self.documents.pop(id_).hash]
        del self.sources_of[id_]

    def _put_source(self, path: str, record: str, id_: int) -> None:
        if (path, record) in self.sources:
            self._drop_source(path, record)
        self.sources[path, record] = id_
        self._records_of(path)[record] = id_
        self.sources_of[id_] = (*self.sources_of.get(id_, ()), (path, record))

    def _drop_source(self, path: str, record: str) -> None:
        id_ = self.sources.pop((path, record))
        records = self._records_of(path)
        del records[record]
        if not records:
            del self.records[path]
            self._own.discard(path)
        self.sources_of[id_] = tuple(each for each in self.sources_of[id_] if each != (path, record))

    def _records_of(self, path: str) -> dict[str, int]:
        if path not in self._own:
            self.records[path] = dict(self.records.get(path, ()))
            self._own.add(path)
        return self.records[path]


_CHANGES: dict[str, Callable[..., None]] = {
    "by": lambda *_: None,
    "settings": Catalogue._set,
    "terms": Catalogue._add_terms,
    "file": Catalogue._put_file,
    "no file": Catalogue._drop_file,
    "document": Catalogue._put_document,
    "no document": Catalogue._drop_document,
    "source": Catalogue._put_source,
    "no source": Catalogue._drop_source,
}


def _plain(notice: Notice) -> tuple[str, int, str]:
    return notice.kind, notice.count, notice.detail
