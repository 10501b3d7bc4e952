"""Vectors of texts: computed once, committed batch by batch, so that a killed run loses one batch at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mixrag.corpus.embedder import Embed, Embedded, Embedder, LocalEmbedder
from mixrag.corpus.passage import Passage
from mixrag.corpus.splitters import Tokens
from mixrag.corpus.store.prepared import text_hash
from mixrag.corpus.store.protocol import Store
from mixrag.corpus.store.records import EncoderRecord
from mixrag.errors import EncoderMismatchError, ModelError
from mixrag.utils.arrays import Vectors
from mixrag.utils.progress import Progress, ProgressEvent

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


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Batches of texts that were handed to the embedder, in their order."""

    batches: tuple[tuple[list[tuple[bytes, str]], Callable[[], Embedded]], ...]
    """Hashes and texts of each, and what waits for its vectors."""


class VectorWriter:
    """Writes the vectors of one encoder into the store.

    Args:
        store: where they go.
        encoding: of the encoder.
        progress: called with stage "embedding".
        embedder: what computes vectors; None: the encoder in this process.
    """

    def __init__(
        self, store: Store, encoding: Encoding, progress: Progress, embedder: Embedder | None = None
    ) -> None:
        self.store, self.encoding, self.progress = store, encoding, progress
        self.embedder: Embedder = embedder or LocalEmbedder(encoding.embed)
        self.computed = 0
        self.refused: set[bytes] = set()
        """Hashes of texts that cannot be embedded; see ``Embedded``."""
        self._under_way: set[bytes] = set()

    def missing(self, texts: Mapping[bytes, str]) -> list[tuple[bytes, str]]:
        """Hashes and texts that have no vector yet, short texts first (so that batches need little padding)."""
        wanted = texts.keys() - self._under_way - self.refused
        lacking = self.store.missing_vectors(self.encoding.fingerprint, wanted)
        return sorted(((digest, texts[digest]) for digest in lacking), key=lambda pair: (len(pair[1]), pair[0]))

    def begin(self, texts: Mapping[bytes, str]) -> UnderWay:
        """Hand the texts whose vectors are missing, and not under way, to the embedder."""
        missing, size = self.missing(texts), self.encoding.batch
        self._under_way.update(digest for digest, _ in missing)
        groups = [missing[start : start + size] for start in range(0, len(missing), size)]
        return UnderWay(tuple((pairs, self.embedder.submit([text for _, text in pairs])) for pairs in groups))

    def finish(self, begun: UnderWay) -> None:
        """Commit the vectors of what was begun, batch by batch; what was begun before it has been finished.

        Raises:
            ModelError: the encoder did not return one finite vector (D,) for each text.
            EncoderMismatchError: D is not that of the store.
        """
        for pairs, wait in begun.batches:
            found = wait()
            refused = {pairs[position][0] for position in found.refused}
            hashes = [digest for digest, _ in pairs if digest not in refused]
            if hashes:
                vectors = self._checked(found.vectors, len(hashes))
                encoder = EncoderRecord(self.encoding.name, self.encoding.fingerprint, vectors.shape[1])
                self.store.add_vectors(encoder, hashes, vectors)
            self.refused |= refused
            self._under_way -= {digest for digest, _ in pairs}
            self.computed += len(hashes)
            self.progress(ProgressEvent("embedding", self.computed, self.computed + len(self._under_way)))

    def add(self, texts: Mapping[bytes, str]) -> None:
        """Compute and commit the vectors that are missing. Raises as ``finish``."""
        self.finish(self.begin(texts))

    def _checked(self, given: Vectors, count: int) -> Vectors:
        vectors = np.ascontiguousarray(given, dtype="<f4")
        if vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
            found = f"an array of shape {vectors.shape} for {count} texts"
            raise ModelError("one finite vector a text", found, f"check the encoder {self.encoding.name}")
        return vectors


def claim(store: Store, encoding: Encoding) -> None:
    """Make sure that the store is of this encoder; a store without passages becomes so.

    Raises:
        EncoderMismatchError: its passages have vectors of another encoder.
    """
    if store.encoder_fingerprint == encoding.fingerprint:
        return
    if store.counts().passages:
        check_encoder(store, encoding.name, encoding.fingerprint)
    store.claim_encoder(encoding.fingerprint)


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
        f"{remedy}, or run: mixrag index --re-embed{wanted} --store {store.name}",
    )


def reembed(store: Store, vectors: VectorWriter) -> None:
    """Give every passage a vector of another encoder, then switch to it in one transaction.

    Until the switch the store answers with the old vectors; a killed run resumes where it stopped. To be called
    while ``writing``.
    """
    encoding = vectors.encoding
    damaged = store.drop_damaged_vectors(encoding.fingerprint)
    hashes: dict[int, bytes] = {}
    size = max(_BLOCK, vectors.embedder.ahead * encoding.batch)
    for block in _embedded_texts(store, encoding, size):
        vectors.add({text_hash(text): text for _, _, text in block})
        if vectors.refused:
            found = f"that the worker died at {len(vectors.refused)} of them, again and again"
            raise ModelError("texts that the encoder can embed", found, "look into the logs of Ray")
        hashes.update({row: new for row, old, text in block if (new := text_hash(text)) != old})
    store.replace_encoder(encoding.fingerprint, hashes, changed=bool(damaged or vectors.computed))


def _embedded_texts(store: Store, encoding: Encoding, size: int) -> Iterator[list[tuple[int, bytes, str]]]:
    """Blocks of row id, stored hash and text to embed, over all passages."""
    rows = store.rows_where({})
    for start in range(0, len(rows), size):
        block = rows[start : start + size].tolist()
        texts = map(encoding.text, store.passages(block))
        yield list(zip(block, store.text_hashes(block), texts, strict=True))
