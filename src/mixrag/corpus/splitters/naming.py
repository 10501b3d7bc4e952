"""Splitters by name, as on the command line."""

from __future__ import annotations

import re
from typing import cast

from mixrag.corpus.splitters.protocol import CONTEXTS, Context, Splitter
from mixrag.corpus.splitters.sentence_splitter import SentenceSplitter
from mixrag.corpus.splitters.structure import StructureSplitter
from mixrag.corpus.splitters.words import WordSplitter
from mixrag.errors import SettingError

DEFAULT = "structure:200"
"""The splitter where none is named."""
_KINDS = {"structure": StructureSplitter, "words": WordSplitter, "sentences": SentenceSplitter}


def splitter_stored(stored: str) -> Splitter | None:
    """The splitter whose ``stored_name`` this is; it has no tokens of its own. None: one of another kind.

    >>> splitter_stored("words:50, context title")
    WordSplitter(words=50, context='title')
    """
    match = re.fullmatch(
        rf"((?:{'|'.join(_KINDS)}):[0-9]{{1,6}})(?: .*?)?(?:, context ({'|'.join(CONTEXTS)}))?", stored
    )
    return None if match is None else splitter_named(match[1], cast(Context, match[2] or "full"))


def splitter_named(name: str, context: Context = "full") -> Splitter:
    """Splitter of a name such as "structure:200", "words:100" or "sentences:80".

    Raises:
        SettingError: no such kind, or not a positive number of tokens or words; or an unknown context.
    """
    match = re.fullmatch(rf"({'|'.join(_KINDS)}):([0-9]{{1,6}})", name)
    if not match:
        expected = "a splitter such as structure:200, words:100 or sentences:100"
        raise SettingError(expected, repr(name), "name one of the three")
    found: Splitter = _KINDS[match[1]](int(match[2]), context=context)
    return found
