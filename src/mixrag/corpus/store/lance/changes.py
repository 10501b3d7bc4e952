"""Changes of the stored passages: each function makes operations of one transaction of the caller."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from mixrag.corpus.passage import searched_text
from mixrag.corpus.store.lance.base import Transaction
from mixrag.corpus.store.lance.schema import Row
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument
from mixrag.corpus.store.records import Removed
from mixrag.corpus.store.sources import MEMORY
from mixrag.corpus.words import words


@dataclass
class Writing:
    """A transaction, and the passages that it adds to the table and removes from it."""

    change: Transaction
    added: dict[int, list[Row]] = field(default_factory=dict)
    """Of each new document."""
    removed: list[int] = field(default_factory=list)
    """Documents whose passages are in the table."""
    terms: dict[str, int] = field(default_factory=dict)
    """New words."""

    def put_file(self, file: ParsedFile) -> tuple[int, int]:
        """Put a file's documents in the place of what was stored of it; passages added and removed."""
        draft = self.change.draft
        before = set(draft.records.get(file.path, {}).values())
        for record in list(draft.records.get(file.path, ())):
            self.change.do("no source", file.path, record)
        notices = [[each.kind, each.count, each.detail] for each in file.notices]
        self.change.do("file", file.path, file.sha256, file.splitter, notices)
        added = 0
        for split in file.documents:
            id_, new = self._put_document(split)
            added += new
            self.change.do("source", file.path, split.document.id or "", id_)
        return added, self.drop_unused(before)

    def put_in_memory(self, split: SplitDocument) -> tuple[int, int]:
        """Put a document from memory in the place of the one with its id; passages added and removed."""
        draft, record = self.change.draft, split.document.id or ""
        if MEMORY not in draft.files:
            self.change.do("file", MEMORY, "", "")
        before = draft.sources.get((MEMORY, record))
        id_, added = self._put_document(split)
        self.change.do("source", MEMORY, record, id_)
        return added, 0 if before is None else self.drop_unused({before})

    def remove_files(self, paths: Iterable[str]) -> Removed:
        """Remove files, and the documents that no other source has; paths that are not stored are ignored."""
        draft, documents, sources = self.change.draft, set[int](), 0
        for path in paths:
            if path in draft.files:
                records = draft.records.get(path, {})
                documents.update(records.values())
                sources += len(records)
                self.change.do("no file", path)
        return self._removed(sources, documents)

    def remove_from_memory(self, ids: Iterable[str]) -> Removed:
        """Remove documents from memory by their ids; others are ignored."""
        draft, documents, sources = self.change.draft, set[int](), 0
        for id_ in ids:
            if (document := draft.sources.get((MEMORY, id_))) is not None:
                documents.add(document)
                sources += 1
                self.change.do("no source", MEMORY, id_)
        self.drop_empty([MEMORY])
        return self._removed(sources, documents)

    def remove_document(self, document: int) -> tuple[Removed, list[str]]:
        """Remove a document with all of its sources; what went, and the files of which nothing is left."""
        sources = self.change.draft.sources_of[document]
        for path, record in sources:
            self.change.do("no source", path, record)
        empty = self.drop_empty(dict.fromkeys(path for path, _ in sources))
        return self._removed(len(sources), {document}), [path for path in empty if path != MEMORY]

    def drop_shared(self, files: Iterable[str], others: Collection[int]) -> None:
        """Drop from these files their sources of these documents, and the files of which nothing is left."""
        draft = self.change.draft
        for path in files:
            for record, document in list(draft.records.get(path, {}).items()):
                if document in others:
                    self.change.do("no source", path, record)
        self.drop_empty(files)

    def drop_empty(self, files: Iterable[str]) -> list[str]:
        """Drop those of these files that have no source; which they were."""
        draft = self.change.draft
        empty = [path for path in files if path in draft.files and path not in draft.records]
        for path in empty:
            self.change.do("no file", path)
        return empty

    def drop_unused(self, documents: Iterable[int]) -> int:
        """Drop those of these documents that have no source; the number of their passages."""
        draft, passages = self.change.draft, 0
        for id_ in documents:
            if not draft.sources_of[id_]:
                passages += draft.documents[id_].passages
                self.change.do("no document", id_)
                if self.added.pop(id_, None) is None:
                    self.removed.append(id_)
        return passages

    def _removed(self, sources: int, documents: set[int]) -> Removed:
        before = len(self.change.draft.documents)
        passages = self.drop_unused(documents)
        return Removed(sources, before - len(self.change.draft.documents), passages)

    def _put_document(self, split: SplitDocument) -> tuple[int, int]:
        """Id of the document, and the number of passages that are new."""
        draft = self.change.draft
        if (known := draft.by_hash.get(split.hash)) is not None:
            return known, 0
        id_, first = draft.settings["next_document"], draft.settings["next_row"]
        passages = split.passages
        self.change.set(next_document=id_ + 1, next_row=first + len(passages))
        pages = max((each.page for each in passages if each.page is not None), default=None)
        characters = max((each.end for each in passages), default=0)
        metadata = json.dumps(dict(split.document.metadata), ensure_ascii=False)
        stored = (split.hash, split.document.title, metadata, split.front_title, first, len(passages))
        self.change.do("document", id_, *stored, pages, characters)
        self.added[id_] = [
            (first + n, id_, n, p.start, p.end, p.text, p.text_hash, p.page, p.place, p.context, found)
            for n, (p, found) in enumerate(zip(passages, self._words(split), strict=True))
        ]
        return id_, len(passages)

    def _words(self, split: SplitDocument) -> Iterable[bytes]:
        """The numbers of the words of each passage; new words get the next ones."""
        known, new = self.change.draft.numbers, self.terms
        for each in split.passages:
            found = words(searched_text(split.front_title, each.context, each.text))
            for word in found:
                if word not in known and word not in new:
                    new[word] = len(known) + len(new) + 1
            yield np.array([known.get(word) or new[word] for word in found], "<u4").tobytes()
