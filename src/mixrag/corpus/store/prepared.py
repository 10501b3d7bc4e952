"""Documents with their passages, ready to be stored in any store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from mixrag.corpus.parsers.result import Notice
from mixrag.corpus.passage import Document, with_context
from mixrag.corpus.splitters import Splitter, checked_spans, context_of, stored_name
from mixrag.corpus.splitters.outline import Outline
from mixrag.corpus.splitters.paragraphs import paragraphs


@dataclass(frozen=True, slots=True)
class NewPassage:
    """A passage as it is stored; its fields are those of ``Passage``."""

    start: int
    end: int
    text: str
    text_hash: bytes
    """SHA-256 of the text that is embedded."""
    page: int | None
    place: str
    context: str


@dataclass(frozen=True, slots=True)
class SplitDocument:
    """A document with its passages, ready to be stored; by itself, one that was added from memory."""

    document: Document
    hash: str
    """``document_hash``: equal ones mean equal passages."""
    passages: tuple[NewPassage, ...]
    front_title: str = ""
    """The title that encoder and BM25 read before each passage; empty for none."""


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A file with its documents, ready to be stored."""

    path: str
    sha256: str
    """Of its bytes, and of the name of the caller's parser that read it; empty: parse it again next time."""
    splitter: str
    documents: tuple[SplitDocument, ...]
    notices: tuple[Notice, ...] = ()
    """Reported again as long as the file does not change."""


def split_document(
    document: Document, splitter: Splitter, embedding_text: Callable[[str, str], str], shown: str, title: str
) -> tuple[SplitDocument, dict[bytes, str]]:
    """The document with its passages, and the texts to embed by their SHA-256.

    Args:
        document: as it will be stored.
        splitter: finds the passages.
        embedding_text: title, and context with text, to the text that is embedded.
        shown: names the document in errors.
        title: what is read before its passages, unless the splitter's context is "none"; see ``front_title``.

    Raises:
        PluginError: the splitter fails, or its spans are invalid.
    """
    texts: dict[bytes, str] = {}
    passages = []
    context = context_of(splitter)
    front = "" if context == "none" else title
    titled = replace(document, title=title)
    outline = Outline(titled, context)
    for start, end in checked_spans(splitter, titled, shown):
        text, around = document.text[start:end], outline.at(start)
        embedded = embedding_text(front, with_context(around.context, text))
        digest = text_hash(embedded)
        texts[digest] = embedded
        passages.append(NewPassage(start, end, text, digest, around.page, around.place, around.context))
    hash_ = document_hash(document, stored_name(splitter), title)
    return SplitDocument(document, hash_, tuple(passages), front), texts


def text_hash(text: str) -> bytes:
    """SHA-256 by which the vector of a text is found."""
    return hashlib.sha256(text.encode()).digest()


def document_hash(document: Document, splitter: str, title: str) -> str:
    """SHA-256 of all that its passages depend on: text, title, metadata, blocks, stored name of the splitter.

    ``title`` is what is read before its passages (``front_title``): the name of its file where it has none.
    """
    # Blocks that a splitter finds by itself make no other document of a text that has none.
    known = () if document.blocks == tuple(paragraphs(document.text)) else document.blocks
    blocks = [[b.start, b.end, b.kind, b.level, b.page, b.place, b.caption] for b in known]
    content = [document.text, document.title, title, dict(document.metadata), splitter, blocks]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
