"""The lexical index of a store's present state."""

from __future__ import annotations

from mixrag.corpus import Store
from mixrag.retrieval.lexical.index import LexicalIndex
from mixrag.retrieval.lexical.postings import inverted


def open_lexical(store: Store) -> LexicalIndex:
    """The index over what the store holds, or over what the snapshot that this thread has opened shows.

    Raises:
        StoreCorruptError: the words of passages cannot be read.
    """
    with store.snapshot():
        return LexicalIndex(inverted(()), inverted(store.words()), None, store.term_ids)
