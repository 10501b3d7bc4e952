"""The lexical index of a store's present state."""

from __future__ import annotations

from mixrag.corpus import Store
from mixrag.retrieval.lexical.files import NONE, Parts, is_current, postings_of
from mixrag.retrieval.lexical.index import LexicalIndex
from mixrag.retrieval.lexical.postings import inverted
from mixrag.retrieval.lexical.typos import Vocabulary

FILE_LIMIT = 50_000
"""Up to so many passages postings are counted from the store each time, which takes less than a second."""


def open_lexical(store: Store) -> LexicalIndex:
    """The index over what the store holds, or over what the snapshot that this thread has opened shows.

    Above ``FILE_LIMIT`` passages postings are read from a file next to the store (``files.py``).

    Raises:
        StoreCorruptError: the words of passages cannot be read.
    """
    with store.snapshot():
        if store.counts().passages > FILE_LIMIT:
            parts = postings_of(store)
        else:
            parts = Parts(NONE, inverted(store.words()), None)
        return LexicalIndex(*parts, store.term_ids, lambda: Vocabulary(store.terms()))


def postings_are_due(store: Store) -> bool:
    """Whether ``open_lexical`` would count words that are in no file, which takes long for many passages.

    Of a store that searches its vectors itself (``Store.own_search``) it is left to whoever asks: the file
    would be in the cache of this machine, and others ask it too.
    """
    return store.own_search is None and store.counts().passages > FILE_LIMIT and not is_current(store)
