"""Documents as they are put into a store, made without parser, splitter or encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixrag.corpus import Document, EncoderRecord, Notice, Store
from mixrag.corpus.store.prepared import NewPassage, ParsedFile, SplitDocument, text_hash
from mixrag.corpus.store.vectors import Encoding, claim
from mixrag.utils.arrays import Vectors

DIMENSION = 4
ENCODER = EncoderRecord("made", "made-1", DIMENSION)


def split(texts: Sequence[str], id_: str | None = None, title: str = "", **metadata: str) -> SplitDocument:
    """A document of these passages; its hash is of texts, title and metadata."""
    whole, passages, start = "\n".join(texts), [], 0
    for text in texts:
        passages.append(NewPassage(start, start + len(text), text, text_hash(text), None, "", ""))
        start += len(text) + 1
    hash_ = text_hash(repr((whole, title, metadata))).hex()
    return SplitDocument(Document(whole, id=id_, title=title, metadata=metadata), hash_, tuple(passages), title)


def file(path: str, *documents: SplitDocument, sha256: str = "", notices: tuple[Notice, ...] = ()) -> ParsedFile:
    """A file with these documents."""
    return ParsedFile(path, sha256 or text_hash(path).hex(), "none", documents, notices)


def vectors_of(texts: Sequence[str]) -> Vectors:
    """(B, D) vectors, drawn from the texts."""
    seeds = [int.from_bytes(text_hash(text)[:8], "little") for text in texts]
    drawn = [np.random.default_rng(seed).standard_normal(DIMENSION) for seed in seeds]
    return np.array(drawn, "<f4").reshape(-1, DIMENSION)


def put(store: Store, *sources: ParsedFile | SplitDocument) -> tuple[int, int]:
    """Vectors of the sources' passages, then the sources: what an indexing run does."""
    encoding = Encoding(lambda texts: vectors_of(texts), ENCODER.name, ENCODER.fingerprint, lambda _, t: t, 8)
    splits = [each for source in sources for each in getattr(source, "documents", (source,))]
    texts = {p.text_hash: p.text for each in splits for p in each.passages}
    with store.writing():
        claim(store, encoding)
        missing = sorted(store.missing_vectors(ENCODER.fingerprint, texts))
        if missing:
            store.add_vectors(ENCODER, missing, vectors_of([texts[each] for each in missing]))
        return store.put(sources)


def texts_in(store: Store) -> list[str]:
    """The texts of all passages, in the order of rows."""
    return [passage.text for passage in store.passages(store.rows_where({}))]
