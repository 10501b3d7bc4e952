"""Text to passages: character spans in the order of the text that leave out nothing but whitespace."""

from mixrag.corpus.splitters.naming import DEFAULT, splitter_named, splitter_stored
from mixrag.corpus.splitters.protocol import (
    CONTEXTS,
    Context,
    Offsets,
    Splitter,
    checked_spans,
    context_of,
    stored_name,
)
from mixrag.corpus.splitters.sentence_splitter import SentenceSplitter
from mixrag.corpus.splitters.structure import StructureSplitter
from mixrag.corpus.splitters.tokens import Tokens
from mixrag.corpus.splitters.words import WordSplitter, count_words

__all__ = [
    "CONTEXTS",
    "DEFAULT",
    "Context",
    "Offsets",
    "SentenceSplitter",
    "Splitter",
    "StructureSplitter",
    "Tokens",
    "WordSplitter",
    "checked_spans",
    "context_of",
    "count_words",
    "splitter_named",
    "splitter_stored",
    "stored_name",
]
