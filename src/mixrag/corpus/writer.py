"""The way of documents into the store: split, gathered to full batches for the encoder, embedded, written."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mixrag.corpus.passage import Document
from mixrag.corpus.report import IndexReport
from mixrag.corpus.splitting import SplitFile, Splitting
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument
from mixrag.corpus.store.protocol import Store
from mixrag.corpus.store.vectors import UnderWay, VectorWriter

# Small documents are gathered up to these amounts.
_PENDING_TEXTS = 512
_PENDING_CHARACTERS = 2**20


@dataclass(frozen=True, slots=True)
class _Group:
    """Sources that are put in place together, once their vectors are there."""

    sources: dict[str, ParsedFile | SplitDocument]
    vectors: UnderWay


@dataclass
class PassageWriter:
    """Puts files and documents from memory into the store, many in one transaction, within bounded memory."""

    store: Store
    vectors: VectorWriter
    splitting: Splitting
    added: int = 0
    """Passages added so far."""
    removed: int = 0
    """Passages removed so far."""
    too_long: int = 0
    """Passages that are longer than the encoder reads."""
    refused: list[str] = field(default_factory=list)
    """Keys of sources that were left out, because a text of theirs cannot be embedded."""
    pending: dict[str, ParsedFile | SplitDocument] = field(default_factory=dict)
    texts: dict[bytes, str] = field(default_factory=dict)
    _under_way: deque[_Group] = field(default_factory=deque)

    def put_document(self, key: str, document: Document, path: str) -> None:
        """Split a document, found at this path, and take it; ``key`` names it."""
        split, texts = self.splitting.document(document, path)
        self.texts.update(texts)
        self.too_long += self.splitting.too_long(texts.values())
        self._put(key, split)

    def put_file(self, path: str, sha256: str, split: SplitFile) -> None:
        """Take a file, which replaces what is stored of it once enough have been gathered."""
        self.texts.update(split.texts)
        self.too_long += split.too_long
        self._put(path, ParsedFile(path, sha256, self.splitting.name, split.documents, split.notices))

    def _put(self, key: str, source: ParsedFile | SplitDocument) -> None:
        self.pending[key] = source
        many = max(len(self.texts), len(self.pending)) >= _PENDING_TEXTS
        if many or sum(map(len, self.texts.values())) >= _PENDING_CHARACTERS:
            self._send()
            while self._batches > self.vectors.embedder.ahead:
                self._write()

    def flush(self) -> None:
        """Embed what is pending, and put it in place."""
        self._send()
        while self._under_way:
            self._write()

    @property
    def _batches(self) -> int:
        """Under way; a group without any counts as one."""
        return sum(max(1, len(group.vectors.batches)) for group in self._under_way)

    def _send(self) -> None:
        """Hand to the embedder what the pending sources need."""
        self._under_way.append(_Group(self.pending, self.vectors.begin(self.texts)))
        self.pending, self.texts = {}, {}

    def _write(self) -> None:
        """Commit the vectors of the first group, then put all of its sources in place in one transaction."""
        group = self._under_way.popleft()
        self.vectors.finish(group.vectors)
        refused = self.vectors.refused
        lacking = [key for key, each in group.sources.items() if refused and not refused.isdisjoint(_hashes(each))]
        self.refused += lacking
        put = [each for key, each in group.sources.items() if key not in lacking]
        if put:
            added, removed = self.store.put(put)
            self.added, self.removed = self.added + added, self.removed + removed

    def finish(self, unchanged: int) -> IndexReport:
        """End the run; what it did to the store."""
        self.store.finish(self.splitting.name)
        counts = self.store.counts()
        return IndexReport(
            documents=counts.documents,
            passages=counts.passages,
            added=self.added,
            removed=self.removed,
            embedded=self.vectors.computed,
            unchanged=unchanged,
            too_long=self.too_long,
            token_limit=self.vectors.encoding.limit,
        )


def _hashes(source: ParsedFile | SplitDocument) -> set[bytes]:
    documents = source.documents if isinstance(source, ParsedFile) else (source,)
    return {passage.text_hash for each in documents for passage in each.passages}
