"""Vectors of texts: computed once, committed batch by batch, so that a killed run loses one batch at most."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mixrag.corpus.passage import Passage
from mixrag.corpus.splitters import Tokens
from mixrag.corpus.store.changes import bump_generation, drop_orphan_vectors, set_meta, text_hash
from mixrag.corpus.store.database import Store
from mixrag.corpus.store.stored_vectors import is_vector
from mixrag.errors import EncoderMismatchError, ModelError
from mixrag.utils.arrays import Vectors
from mixrag.utils.progress import Progress, ProgressEvent

Embed = Callable[[list[str]], Vectors]
"""Texts (B,) to vectors (B, D)."""
EmbeddingText = Callable[[str, str], str]
"""Title of a passage, and its context with its text, to the text that is embedded."""
HALF = ", bfloat16"
"""Ends the name of an encoder whose vectors are computed in bfloat16."""
_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Encoding:
    """How passages become vectors; whatever changes a vector must change the fingerprint."""

    embed: Embed
    name: str
    fingerprint: str
    embedding_text: EmbeddingText
    batch: int
    tokens: Tokens | None = None
    """The encoder's, by which what it does not read is counted."""

    def text(self, passage: Passage) -> str:
        """The text that is embedded for a passage."""
        return self.embedding_text(passage.front_title, passage.body)

    @property
    def limit(self) -> int | None:
        """How many tokens of a text the encoder reads; None: all, or it is not known."""
        return None if self.tokens is None else self.tokens.limit

    def too_long(self, texts: Iterable[str]) -> int:
        """How many texts are longer than the encoder reads."""
        if self.tokens is None or self.limit is None:
            return 0
        limit = self.limit
        long = [text for text in texts if len(text.encode()) > limit]  # no token is shorter than a byte
        return sum(count > limit for count in self.tokens.counts(long))


class VectorWriter:
    """Writes the vectors of one encoder into the store."""

    def __init__(self, store: Store, encoding: Encoding, progress: Progress) -> None:
        self.store, self.encoding, self.progress = store, encoding, progress
        self.computed = 0

    def missing(self, texts: Mapping[bytes, str]) -> list[tuple[bytes, str]]:
        """Hashes and texts that have no vector yet, short texts first (so that batches need little padding)."""
        sql = (
            "SELECT 1 FROM vectors WHERE text_hash = ?"
            " AND encoder_id = (SELECT id FROM encoders WHERE fingerprint = ?)"
        )
        lacking = (
            pair for pair in texts.items() if not self.store.query(sql, (pair[0], self.encoding.fingerprint))
        )
        return sorted(lacking, key=lambda pair: (len(pair[1]), pair[0]))

    def add(self, texts: Mapping[bytes, str]) -> None:
        """Compute and commit the vectors that are missing.

        Raises:
            ModelError: the encoder did not return one finite vector (D,) for each text.
            EncoderMismatchError: D is not that of the store.
        """
        missing = self.missing(texts)
        known = self.computed + len(missing)
        for start in range(0, len(missing), self.encoding.batch):
            pairs = missing[start : start + self.encoding.batch]
            vectors = self._embed([text for _, text in pairs])
            with self.store.transaction() as db:
                encoder_id = self._encoder_id(db, vectors.shape[1])
                rows = ((encoder_id, digest, v.tobytes()) for (digest, _), v in zip(pairs, vectors, strict=True))
                db.executemany("INSERT INTO vectors (encoder_id, text_hash, vector) VALUES (?, ?, ?)", rows)
            self.computed += len(pairs)
            self.progress(ProgressEvent("embedding", self.computed, known))

    def _embed(self, texts: list[str]) -> Vectors:
        vectors = np.ascontiguousarray(self.encoding.embed(texts), dtype="<f4")
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            found = f"an array of shape {vectors.shape} for {len(texts)} texts"
            raise ModelError("one finite vector a text", found, f"check the encoder {self.encoding.name}")
        return vectors

    def _encoder_id(self, db: sqlite3.Connection, dimension: int) -> int:
        fingerprint = self.encoding.fingerprint
        db.execute(
            "INSERT OR IGNORE INTO encoders (fingerprint, name, dimension) VALUES (?, ?, ?)",
            (fingerprint, self.encoding.name, dimension),
        )
        sql = "SELECT id, dimension FROM encoders WHERE fingerprint = ?"
        encoder_id, stored = db.execute(sql, (fingerprint,)).fetchone()
        if stored != dimension:
            expected, found = f"vectors of {stored} dimensions", f"{dimension} dimensions"
            raise EncoderMismatchError(expected, found, "give the changed encoder a new fingerprint")
        return int(encoder_id)


def claim(store: Store, encoding: Encoding) -> None:
    """Make sure that the store is of this encoder; a store without passages becomes so.

    Raises:
        EncoderMismatchError: its passages have vectors of another encoder.
    """
    current = store.meta("encoder")
    if current == encoding.fingerprint:
        return
    if store.counts().passages:
        check_encoder(store, encoding.name, encoding.fingerprint)
    with store.transaction() as db:
        set_meta(db, "encoder", encoding.fingerprint)
        db.execute("DELETE FROM encoders WHERE fingerprint != ?", (encoding.fingerprint,))


def check_encoder(store: Store, name: str, fingerprint: str) -> None:
    """Refuse an encoder that did not make the store's vectors.

    Raises:
        EncoderMismatchError: the fingerprints differ.
    """
    stored = store.encoder
    if stored is None or stored.fingerprint == fingerprint:
        return
    remedy, wanted = "name that encoder", ""
    if stored.name != name and stored.name.removesuffix(HALF) == name.removesuffix(HALF):
        dtype = "bfloat16" if name.endswith(HALF) else "float32"
        remedy, wanted = "leave --encoder-dtype out", f" --encoder-dtype {dtype}"
    raise EncoderMismatchError(
        f"the encoder that made the store's vectors, {stored.name} ({stored.fingerprint[:12]})",
        f"{name} ({fingerprint[:12]})",
        f"{remedy}, or run: mixrag index --re-embed{wanted} --store {store.directory}",
    )


def reembed(store: Store, vectors: VectorWriter) -> None:
    """Give every passage a vector of another encoder, then switch to it in one transaction.

    Until the switch the store answers with the old vectors; a killed run resumes where it stopped.
    """
    encoding = vectors.encoding
    damaged = _drop_damaged(store, encoding.fingerprint)
    for block in _embedded_texts(store, encoding):
        vectors.add({text_hash(text): text for _, _, text in block})
    with store.transaction() as db:
        changed = [
            (digest, row)
            for block in _embedded_texts(store, encoding)
            for row, old, text in block
            if (digest := text_hash(text)) != old
        ]
        db.executemany("UPDATE passages SET text_hash = ? WHERE id = ?", changed)
        if changed or damaged or vectors.computed or store.meta("encoder") != encoding.fingerprint:
            bump_generation(db)
        set_meta(db, "encoder", encoding.fingerprint)
        db.execute("DELETE FROM encoders WHERE fingerprint != ?", (encoding.fingerprint,))
        drop_orphan_vectors(db)


def _drop_damaged(store: Store, fingerprint: str) -> int:
    """Delete an encoder's vectors that cannot be its own: of another size, with a NaN or an infinity; how many."""
    sql = "SELECT id, dimension FROM encoders WHERE fingerprint = ?"
    dropped = 0
    for encoder_id, dimension in store.query(sql, (fingerprint,)):
        after = -1
        while block := store.query(
            "SELECT id, vector FROM vectors WHERE encoder_id = ? AND id > ? ORDER BY id LIMIT ?",
            (encoder_id, after, _BLOCK),
        ):
            after = block[-1][0]
            damaged = [(id_,) for id_, blob in block if not is_vector(blob, dimension)]
            if damaged:
                with store.transaction() as db:
                    db.executemany("DELETE FROM vectors WHERE id = ?", damaged)
                dropped += len(damaged)
        if dropped:
            with store.transaction() as db:  # with the last of its vectors, what it is said to be
                db.execute(
                    "DELETE FROM encoders WHERE id = ?"
                    " AND NOT EXISTS (SELECT 1 FROM vectors WHERE encoder_id = ?)",
                    (encoder_id, encoder_id),
                )
    return dropped


def _embedded_texts(store: Store, encoding: Encoding) -> Iterator[list[tuple[int, bytes, str]]]:
    """Blocks of row id, stored hash and text to embed, over all passages."""
    rows = store.rows_where({})
    sql = "SELECT text_hash FROM passages WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].tolist()
        hashes = [digest for (digest,) in store.query(sql, (json.dumps(block),))]
        texts = map(encoding.text, store.passages(block))
        yield list(zip(block, hashes, texts, strict=True))
