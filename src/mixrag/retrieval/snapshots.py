"""The indexes over a store that changes: each question sees one state of it, and the indexes of that state.

The index in memory belongs to one generation of the store. A question opens a snapshot of the store, and in it
compares the generation, searches the index and reads the passages, so that all three agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from threading import Lock, RLock
from typing import TypeVar

from mixrag.corpus import Counts, EncoderRecord, Store
from mixrag.retrieval.index import (
    CompleteIndex,
    DamagedIndexError,
    IndexChoice,
    discard,
    open_index,
)
from mixrag.retrieval.lexical import LexicalIndex, open_lexical

T = TypeVar("T")


class Opened:
    """The indexes of one state of the store; that of words is opened by the first question that needs it."""

    def __init__(self, key: tuple[int, IndexChoice], store: Store, index: CompleteIndex) -> None:
        self.key, self.index, self._store = key, index, store
        self._lexical: LexicalIndex | None = None
        self._lock = Lock()

    @property
    def has_words(self) -> bool:
        """Whether the index of words is open."""
        return self._lexical is not None

    def lexical(self) -> LexicalIndex:
        """The index of words; to be called in a snapshot of that state."""
        with self._lock:
            if self._lexical is None:
                self._lexical = open_lexical(self._store)
            return self._lexical

    @cached_property
    def state(self) -> str:
        """``Store.state``; to be called in a snapshot of that state."""
        return self._store.state

    @cached_property
    def counts(self) -> Counts:
        """``Store.counts``; as ``state``."""
        return self._store.counts()

    @cached_property
    def encoder(self) -> EncoderRecord | None:
        """``Store.encoder``; as ``state``."""
        return self._store.encoder

    @cached_property
    def largest_norm(self) -> float | None:
        """``Store.largest_norm``; as ``state``."""
        return self._store.largest_norm


class Snapshots:
    """Opens the indexes when they are first needed, and again when the store has changed; safe to use in threads.

    Threads search and read without waiting for each other. Where the store has changed, the first thread that
    notices opens the new index and the others wait.
    """

    def __init__(self, store: Store, kind: Callable[[], IndexChoice]) -> None:
        """``kind`` is called at each use."""
        self.store, self._kind = store, kind
        self._opening = RLock()
        self._opened: Opened | None = None

    def run(self, work: Callable[[Opened], T], check: Callable[[], None] = lambda: None) -> T:
        """What ``work`` makes of the indexes, in a snapshot of the store.

        Args:
            work: is called again where files of the index turn out to be damaged.
            check: called in the snapshot before an index is opened.
        """
        try:
            with self.opened(check) as opened:
                return work(opened)
        except DamagedIndexError:
            # A second time it comes from the store alone.
            discard(self.store.cache_directory)
            self._opened = None
            with self.opened(check) as opened:
                return work(opened)

    @contextmanager
    def opened(self, check: Callable[[], None] = lambda: None) -> Iterator[Opened]:
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
                        check()
                        opened = self._open()
            yield opened

    def open(self, check: Callable[[], None] = lambda: None) -> None:
        """Open index and words now, so that no question waits for them. ``check`` as in ``run``."""
        self.run(lambda opened: opened.lexical(), check)

    @property
    def are_open(self) -> bool:
        """Whether index and words are open, be it of a state that the store was in before."""
        return self._opened is not None and self._opened.has_words

    def _current(self) -> Opened | None:
        opened = self._opened
        return opened if opened is not None and opened.key == (self.store.generation, self._kind()) else None

    def _open(self) -> Opened:
        kind = self._kind()
        self._opened = opened = Opened((self.store.generation, kind), self.store, open_index(self.store, kind))
        return opened
