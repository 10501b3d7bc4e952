"""The way of documents into the store: split, gathered to full batches for the encoder, embedded, written."""

from __future__ import annotations

from dataclasses import dataclass, field

from mixrag.corpus.passage import Document
from mixrag.corpus.report import IndexReport
from mixrag.corpus.splitters import Splitter, stored_name
from mixrag.corpus.store import sources
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument, split_document
from mixrag.corpus.store.protocol import Store
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
    too_long: int = 0
    """Passages that are longer than the encoder reads."""
    pending: dict[str, ParsedFile | SplitDocument] = field(default_factory=dict)
    texts: dict[bytes, str] = field(default_factory=dict)

    @property
    def splitter_name(self) -> str:
        """As it is stored."""
        return stored_name(self.splitter)

    def split(self, document: Document, path: str) -> SplitDocument:
        """The document, found at this path, with its passages, whose texts will be embedded."""
        record, encoding = document.id or "", self.vectors.encoding
        title = sources.front_title(document.title, path, record)
        shown = sources.display(path, record)
        split, texts = split_document(document, self.splitter, encoding.embedding_text, shown, title)
        self.texts.update(texts)
        self.too_long += encoding.too_long(texts.values())
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
        self.store.finish(self.splitter_name)
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
