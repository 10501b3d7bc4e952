"""The way of documents into the store: split, gathered to full batches for the encoder, embedded, written."""

from __future__ import annotations

from dataclasses import dataclass, field

from mixrag.corpus.passage import Document
from mixrag.corpus.report import IndexReport
from mixrag.corpus.splitters import Splitter
from mixrag.corpus.store import changes
from mixrag.corpus.store.changes import ParsedFile, SplitDocument
from mixrag.corpus.store.database import Store
from mixrag.corpus.store.vectors import VectorWriter

# Small documents are gathered up to these amounts.
_PENDING_TEXTS = 512
_PENDING_CHARACTERS = 2**20


@dataclass
class PassageWriter:
    """Puts files and documents from memory into the store, many in one transaction, within bounded memory."""

    store: Store
    vectors: VectorWriter
    splitter: Splitter
    added: int = 0
    """Passages added so far."""
    removed: int = 0
    """Passages removed so far."""
    pending: dict[str, ParsedFile | SplitDocument] = field(default_factory=dict)
    texts: dict[bytes, str] = field(default_factory=dict)

    def split(self, document: Document, shown: str) -> SplitDocument:
        """The document with its passages, whose texts will be embedded; ``shown`` names it in errors."""
        split, texts = changes.split_document(document, self.splitter, self.vectors.encoding.embedding_text, shown)
        self.texts.update(texts)
        return split

    def put(self, key: str, source: ParsedFile | SplitDocument) -> None:
        """Take a source, which replaces what is stored of it once enough have been gathered; ``key`` names it."""
        self.pending[key] = source
        many = max(len(self.texts), len(self.pending)) >= _PENDING_TEXTS
        if many or sum(map(len, self.texts.values())) >= _PENDING_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Embed what the pending sources need, then put all of them in place in one transaction."""
        self.vectors.add(self.texts)
        if self.pending:
            added, removed = self.store.put(self.pending.values())
            self.added, self.removed = self.added + added, self.removed + removed
        self.pending, self.texts = {}, {}

    def finish(self, unchanged: int) -> IndexReport:
        """End the run; what it did to the store."""
        self.store.finish(self.splitter.name)
        counts = self.store.counts()
        return IndexReport(
            documents=counts.documents,
            passages=counts.passages,
            added=self.added,
            removed=self.removed,
            embedded=self.vectors.computed,
            unchanged=unchanged,
        )
