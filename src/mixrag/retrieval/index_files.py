"""The files next to a large store that questions read: the approximate index, and the postings of words."""

from __future__ import annotations

import logging
import time

from mixrag.corpus import Store
from mixrag.retrieval.index import IndexChoice, index_is_due, open_index
from mixrag.retrieval.lexical import open_lexical, postings_are_due

_logger = logging.getLogger("mixrag.retrieval")


def update_index_files(store: Store, choice: IndexChoice) -> bool:
    """Write what is due of them; whether anything was. Lines at the beginning and at the end are logged.

    Up to 50,000 passages there are no such files, and a backend that searches itself has its own.

    Raises:
        StoreError: the files cannot be written, and there is too little memory to do without.
    """
    with store.snapshot():
        index, words = index_is_due(store, choice), postings_are_due(store)
        if index or words:
            began = time.monotonic()
            _logger.info("updating the index files of %d passages", store.counts().passages)
            if index:
                open_index(store, choice)
            if words:
                open_lexical(store)
            _logger.info("updated the index files in %.0f s", time.monotonic() - began)
    return index or words
