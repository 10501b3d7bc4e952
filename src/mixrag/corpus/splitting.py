"""From the documents of a file to passages, and to the texts that are embedded for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mixrag.corpus.parsers.result import Notice, ParseResult, Skipped
from mixrag.corpus.passage import Document
from mixrag.corpus.splitters import Splitter, Tokens, stored_name
from mixrag.corpus.store import sources
from mixrag.corpus.store.prepared import SplitDocument, split_document


@dataclass(frozen=True, slots=True)
class SplitFile:
    """The documents of a file with their passages."""

    documents: tuple[SplitDocument, ...]
    texts: Mapping[bytes, str]
    """What is embedded for them, by its SHA-256."""
    too_long: int
    """Passages that are longer than the encoder reads."""
    skipped: tuple[Skipped, ...] = ()
    """Records of the file that could not be used."""
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Splitting:
    """How documents become passages."""

    splitter: Splitter
    embedding_text: Callable[[str, str], str]
    """Title of a passage, and its context with its text, to the text that is embedded."""
    tokens: Tokens | None = None
    """The encoder's, by which what it does not read is counted."""

    @property
    def name(self) -> str:
        """Of the splitter, as it is stored."""
        return stored_name(self.splitter)

    def document(self, document: Document, path: str) -> tuple[SplitDocument, dict[bytes, str]]:
        """The document, found at this path, with its passages, and the texts to embed by their SHA-256.

        Raises:
            PluginError: the splitter fails, or its spans are invalid.
        """
        record = document.id or ""
        title = sources.front_title(document.title, path, record)
        shown = sources.display(path, record)
        return split_document(document, self.splitter, self.embedding_text, shown, title)

    def file(self, path: str, result: ParseResult) -> SplitFile:
        """What a parser found in the file at this path, split.

        Raises:
            PluginError: as ``document``.
        """
        texts: dict[bytes, str] = {}
        documents, too_long = [], 0
        for each in result.documents:
            split, own = self.document(each, path)
            documents.append(split)
            texts.update(own)
            too_long += self.too_long(own.values())
        return SplitFile(tuple(documents), texts, too_long, result.skipped, result.notices)

    def too_long(self, texts: Iterable[str]) -> int:
        """How many texts are longer than the encoder reads."""
        limit = None if self.tokens is None else self.tokens.limit
        if self.tokens is None or limit is None:
            return 0
        long = [text for text in texts if len(text.encode()) > limit]  # no token is shorter than a byte
        return sum(count > limit for count in self.tokens.counts(long))
