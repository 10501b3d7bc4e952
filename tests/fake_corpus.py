"""A fake encoder, and what the tests of the corpus floor check over and over."""

import hashlib

import numpy as np

from mixrag.corpus import WordSplitter, ingest
from mixrag.corpus.passage import searched_text
from mixrag.corpus.store.lance.log import Log
from mixrag.corpus.store.lance.store import LanceStore
from mixrag.corpus.store.lance.tables import PASSAGES
from mixrag.corpus.store.postgres.store import PostgresStore
from mixrag.corpus.store.sqlite.store import SqliteStore
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
    """Invariants: passages have their words and vectors, documents a source, and what the backend adds."""
    known = {id_: term for term, id_ in store.terms()}
    found = {
        row: [known[id_] for id_ in ids.tolist()]
        for rows, lengths, every in store.words()
        for row, ids in zip(rows.tolist(), np.split(every, np.cumsum(lengths)[:-1]), strict=True)
    }
    rows = store.rows_where({})
    passages = store.passages(rows)
    assert found == {
        row: words(searched_text(each.front_title, each.context, each.text))
        for row, each in zip(rows.tolist(), passages, strict=True)
    }
    listed = store.documents()
    assert sum(each.passages for each in listed) == len(rows) and all(each.sources for each in listed)
    hashes = store.text_hashes(rows)
    assert [int.from_bytes(each[:8], "little") for each in hashes] == store.marks()[1].tolist()
    assert not hashes or store.missing_vectors(store.encoder.fingerprint, hashes) == set()
    CHECKS.get(type(store), lambda _: None)(store)


def check_sqlite(store):
    """SQLite, foreign keys, no vector without a passage, no document without a source."""
    assert store.query("PRAGMA integrity_check") == [("ok",)]
    assert store.query("PRAGMA foreign_key_check") == []
    used = store.query("SELECT count(DISTINCT text_hash) FROM passages")
    assert store.query("SELECT count(*) FROM vectors") == used
    lost = "SELECT count(*) FROM documents WHERE id NOT IN (SELECT document_id FROM sources)"
    assert store.query(lost) == [(0,)]


def check_lance(store):
    """Table and commits fit together, no vector without a passage, no document or file without a source."""
    now = store.now
    assert [*Log(store.place).latest().operations()] == [*now.operations()]
    assert store.tables.latest(PASSAGES).version == now.settings["passages"]
    hashes = store.text_hashes(store.rows_where({}))
    assert store.tables.at(PASSAGES, now.settings["passages"]).count_rows() == len(hashes)
    if hashes:
        assert store.vector_table(now)[1].count_rows() == len(set(hashes))
    assert all(now.sources_of.values()) and {*now.sources_of} == {*now.documents} == {*now.by_hash.values()}
    assert {*now.records} == {*now.files} == {path for path, _ in now.sources}


def check_postgres(store):
    """No vector without a passage, no document without a source; PostgreSQL sees to the rest."""
    used = store.query("SELECT count(DISTINCT text_hash) FROM passages")
    assert store.query("SELECT count(*) FROM vectors") == used
    lost = "SELECT count(*) FROM documents WHERE id NOT IN (SELECT document_id FROM sources)"
    assert store.query(lost) == [(0,)]
    assert store.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()") == [
        (0,)
    ]


CHECKS = {SqliteStore: check_sqlite, LanceStore: check_lance, PostgresStore: check_postgres}
"""What ``check_sound`` also looks at, by the type of a store."""
