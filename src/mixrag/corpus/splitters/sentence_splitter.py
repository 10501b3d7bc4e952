"""Passages of whole sentences, measured in words."""

from __future__ import annotations

from dataclasses import dataclass

from mixrag.corpus.splitters.packing import Unit, measured, packed
from mixrag.corpus.splitters.paragraphs import paragraphs
from mixrag.corpus.splitters.protocol import Context, Offsets, checked_context
from mixrag.corpus.splitters.sentences import sentences
from mixrag.corpus.splitters.tokens import WORDS
from mixrag.corpus.splitters.words import check_size


@dataclass(frozen=True, slots=True)
class SentenceSplitter:
    """Disjoint passages of at most ``words`` words that end at paragraphs or sentences where they can."""

    words: int = 100
    context: Context = "full"
    """See ``Context``."""

    def __post_init__(self) -> None:
        check_size(self.words, "word", "sentences:100")
        checked_context(self.context)

    @property
    def name(self) -> str:
        return f"sentences:{self.words}"

    def split(self, text: str) -> list[Offsets]:
        units = []
        for block in paragraphs(text):
            own = [Unit(*span) for span in sentences(text, block.start, block.end)]
            own[-1].last = True
            units += own
        parts = measured(text, units, self.words, WORDS)
        return packed([part for each in parts for part in each], 0, self.words)
