"""A fake encoder, and what the tests of the corpus floor check over and over."""

import hashlib

import numpy as np

from mixrag.corpus import WordSplitter, ingest
from mixrag.corpus.passage import searched_text
from mixrag.corpus.words import words


class FakeEncoder:
    """Vectors drawn from the hash of the text; remembers what it was asked for."""

    def __init__(self, fingerprint="fake-1", dimension=8):
        self.fingerprint, self.dimension = fingerprint, dimension
        self.batches = []

    def __call__(self, texts):
        self.batches.append(list(texts))
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text):
        seed = int.from_bytes(hashlib.sha256((self.fingerprint + text).encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(self.dimension).astype(np.float32)

    @property
    def texts(self):
        return [text for batch in self.batches for text in batch]


def run(store, *paths, encoder=None, splitter=None, **options):
    encoder = encoder or FakeEncoder()
    return ingest(
        store,
        list(paths),
        embed=encoder,
        encoder_fingerprint=encoder.fingerprint,
        encoder_name=f"name of {encoder.fingerprint}",
        splitter=splitter or WordSplitter(5),
        **options,
    )


def content(store):
    """Everything a reader can see, without row ids."""
    rows, vectors = store.vectors()
    passages = store.passages(rows)
    assert len(rows) == store.counts().passages
    return sorted(
        (p.document, p.id, p.title, p.text, p.start, p.end, tuple(p.metadata.items()), v.tobytes())
        for p, v in zip(passages, vectors, strict=True)
    )


def check_sound(store):
    """Invariants of the file itself: SQLite, foreign keys, words, no vector without a passage."""
    assert store.query("PRAGMA integrity_check") == [("ok",)]
    assert store.query("PRAGMA foreign_key_check") == []
    known = {id_: term for term, id_ in store.terms()}
    found = {
        row: [known[id_] for id_ in ids.tolist()]
        for rows, lengths, every in store.words()
        for row, ids in zip(rows.tolist(), np.split(every, np.cumsum(lengths)[:-1]), strict=True)
    }
    sql = "SELECT p.id, front_title, context, text FROM passages p JOIN documents d ON d.id = document_id"
    assert found == {row: words(searched_text(*parts)) for row, *parts in store.query(sql)}
    used = store.query("SELECT count(DISTINCT text_hash) FROM passages")
    assert store.query("SELECT count(*) FROM vectors") == used
    assert store.query("SELECT count(*) FROM documents WHERE id NOT IN (SELECT document_id FROM sources)") == [
        (0,)
    ]
