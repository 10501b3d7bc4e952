"""What goes between a worker that reads files and the process that writes the store: JSON, without code or pickle.

Passages go as offsets: their texts, and those to embed, are made of the document on the other side.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mixrag import errors
from mixrag.corpus.parsers import wire
from mixrag.corpus.parsers.result import Notice, Skipped, UnreadableError
from mixrag.corpus.passage import with_context
from mixrag.corpus.splitting import SplitFile
from mixrag.corpus.store.prepared import NewPassage, SplitDocument, text_hash
from mixrag.errors import ClusterError, MixragError

_UNREADABLE = "unreadable"


def packed(found: SplitFile | UnreadableError | MixragError) -> bytes:
    """A file with its passages, the reason why it has none, or the error that ends the run."""
    if isinstance(found, MixragError):
        kind = _UNREADABLE if isinstance(found, UnreadableError) else type(found).__name__
        return _encoded({"error": [kind, found.expected, found.found, found.remedy]})
    return _encoded(
        {
            "documents": [_packed_split(each) for each in found.documents],
            "too_long": found.too_long,
            "skipped": [[each.path, each.reason] for each in found.skipped],
            "notices": [[each.kind, each.count, each.detail] for each in found.notices],
        }
    )


def unpacked(data: bytes, embedding_text: Callable[[str, str], str]) -> SplitFile | UnreadableError:
    """What ``packed`` wrote; ``embedding_text`` is that of ``Splitting``.

    Raises:
        MixragError: the error that was packed.
    """
    message = json.loads(data)
    if "error" in message:
        kind, *reason = message["error"]
        if kind == _UNREADABLE:
            return UnreadableError(*reason)
        raise getattr(errors, kind, ClusterError)(*reason)
    texts: dict[bytes, str] = {}
    documents = tuple(_split(each, embedding_text, texts) for each in message["documents"])
    skipped = tuple(Skipped(*each) for each in message["skipped"])
    notices = tuple(Notice(*each) for each in message["notices"])
    return SplitFile(documents, texts, message["too_long"], skipped, notices)


def _packed_split(split: SplitDocument) -> list[Any]:
    passages = [[p.start, p.end, p.page, p.place, p.context] for p in split.passages]
    return [wire.packed(split.document), split.hash, split.front_title, passages]


def _split(given: list[Any], embedding_text: Callable[[str, str], str], texts: dict[bytes, str]) -> SplitDocument:
    """The document; the texts that are embedded for it are added to ``texts``."""
    packed_document, hash_, front, rows = given
    document = wire.document_of(packed_document)
    passages = []
    for start, end, page, place, context in rows:
        text = document.text[start:end]
        embedded = embedding_text(front, with_context(context, text))
        digest = text_hash(embedded)
        texts[digest] = embedded
        passages.append(NewPassage(start, end, text, digest, page, place, context))
    return SplitDocument(document, hash_, tuple(passages), front)


def _encoded(message: dict[str, Any]) -> bytes:
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
