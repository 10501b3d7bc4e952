"""Documents and files, all of which a catalogue knows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection

import numpy as np

from mixrag.corpus.parsers.result import Notice
from mixrag.corpus.passage import Passage
from mixrag.corpus.store.lance.passages import PassageReads
from mixrag.corpus.store.records import Counts, DocumentRecord, Extent
from mixrag.corpus.store.sources import MEMORY, display, fallback_title, preferred


class ContentReads(PassageReads):
    """See ``Store``."""

    @property
    def generation(self) -> int:
        """See ``Store.generation``."""
        return int(self.now.settings["generation"])

    @property
    def state(self) -> str:
        """See ``Store.state``."""
        settings = self.now.settings
        found = [settings["store"], settings["generation"], settings["encoder"]]
        # Random, new with each change, for a copy that is changed otherwise counts the same. Old stores have none.
        found += [settings["change"]] if "change" in settings else []
        return hashlib.sha256(repr(found).encode()).hexdigest()[:16]

    @property
    def splitter(self) -> str | None:
        """See ``Store.splitter``."""
        found: str | None = self.now.settings["splitter"]
        return found

    @property
    def part(self) -> str | None:
        """See ``Store.part``."""
        found: str | None = self.now.settings.get("part")
        return found

    def documents_digest(self) -> str:
        """See ``Store.documents_digest``."""
        return hashlib.sha256("".join(f"{each}\n" for each in sorted(self.now.by_hash)).encode()).hexdigest()

    def counts(self) -> Counts:
        """See ``Store.counts``."""
        now = self.now
        return Counts(len(now.documents), sum(each.passages for each in now.documents.values()), len(now.sources))

    def documents(self) -> list[DocumentRecord]:
        """See ``Store.documents``."""
        now = self.now
        found = []
        for id_, each in now.documents.items():
            sources = now.sources_of[id_]
            path, record = preferred(sources)
            title = each.title or fallback_title(path, record)
            found.append(DocumentRecord(display(path, record), title, each.passages, len(sources)))
        return sorted(found, key=lambda record: record.path)

    def document_row(self, path: str) -> int | None:
        """See ``Store.document_row``."""
        now = self.now
        marks = [place for place, letter in enumerate(path) if letter == "#"]
        files = [(path, ""), *((path[:at], path[at + 1 :]) for at in marks)]
        sources = [(MEMORY, path), *(each for each in files if each[0] != MEMORY)]
        return next((now.sources[each] for each in sources if each in now.sources), None)

    def files_of(self, document: int) -> list[str]:
        """See ``Store.files_of``."""
        return sorted({path for path, _ in self.now.sources_of.get(document, ()) if path != MEMORY})

    def extent(self, document: int) -> Extent:
        """See ``Store.extent``."""
        found = self.now.documents.get(document)
        return Extent(0, None, 0) if found is None else Extent(found.passages, found.pages, found.characters)

    def passages_of(
        self, document: int, *, offset: int = 0, page: int | None = None, limit: int = 20
    ) -> list[Passage]:
        """See ``Store.passages_of``."""
        with self.snapshot():
            rows = [
                row
                for row, _, stop, on in self._places(document)
                if stop > offset and (page is None or on == page)
            ]
            return self.passages(rows[:limit])

    def offset_before(self, document: int, offset: int, passages: int) -> int:
        """See ``Store.offset_before``."""
        starts = [start for _, start, stop, _ in self._places(document) if stop <= offset]
        return starts[-passages:][0] if starts and passages else offset

    def _places(self, document: int) -> list[tuple[int, int, int, int | None]]:
        """Row id, start, stop and page of the passages of a document, in the order of its text."""
        now = self.now
        found = now.documents.get(document)
        if found is None:
            return []
        rows = np.arange(found.first, found.first + found.passages)
        return list(self._taken(now, rows, ("row", "start", "stop", "page")).rows())

    # --- Files ---------------------------------------------------------------------------------------

    def has_file(self, path: str, sha256: str, splitter: str) -> bool:
        """See ``Store.has_file``."""
        found = self.now.files.get(path)
        return found is not None and (found.sha256, found.splitter) == (sha256, splitter)

    def files_below(self, path: str) -> list[str]:
        """See ``Store.files_below``."""
        prefix = os.path.join(path, "")  # noqa: PTH118 - a string prefix is wanted, "/" included
        return sorted(stored for stored in self.now.files if stored == path or stored.startswith(prefix))

    def notices(self, paths: Collection[str]) -> list[tuple[str, Notice]]:
        """See ``Store.notices``."""
        files, wanted = self.now.files, set(paths)
        found = [(path, notice) for path in files if path in wanted for notice in files[path].notices]
        return sorted(found, key=lambda each: (each[0], each[1].kind))

    def memory_hash(self, id_: str) -> str | None:
        """See ``Store.memory_hash``."""
        now = self.now
        document = now.sources.get((MEMORY, id_))
        return None if document is None else now.documents[document].hash
