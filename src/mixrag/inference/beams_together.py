"""Beam searches of several questions side by side: the answers of all of them are rows of one batch.

What comes out is, question by question, what ``beam`` finds alone, up to the order of additions in larger batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from mixrag.inference.batch import ROWS, batches_by_rows
from mixrag.inference.beam_search import BeamSearch, SearchResult
from mixrag.inference.continuous import write_together
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture
from mixrag.inference.protocol import DecoderResult


def beams_in_batches(mixtures: Sequence[Mixture], width: int, max_tokens: int) -> Iterator[SearchResult]:
    """The result of each ``beam``; as many mixtures at a time as have at most ``ROWS`` rows in their beams."""
    for batch in batches_by_rows(mixtures, max(1, ROWS // width)):
        yield from beams_together(batch, width, max_tokens)


def beams_together(mixtures: Sequence[Mixture], width: int, max_tokens: int) -> list[SearchResult]:
    """A beam search for each of several mixtures of one generator; one pass of the model serves all.

    Args:
        mixtures: one or more; memory is that of the beams of all of them.
        width: of each beam.
        max_tokens: longest answer.
    """
    searches = [Searching(mixture, width, max_tokens) for mixture in mixtures]
    write_together(searches)
    return [each.search.result() for each in searches]


class Searching:
    """A beam search under way, which ends after so many tokens; a ``Writing``."""

    step = None
    """It decides on whole answers."""

    def __init__(self, mixture: Mixture, width: int, max_tokens: int) -> None:
        self.mixture, self.max_tokens = mixture, max_tokens
        self._width, self._count = width, 0
        self._search: BeamSearch | None = None

    @property
    def search(self) -> BeamSearch:
        """The search; it begins with the prior, which may need what the model says of the prompts."""
        if self._search is None:
            self._search = BeamSearch(self.mixture, self._width)
        return self._search

    @property
    def rows(self) -> int:
        """K for each answer in the beam."""
        return self._width * len(self.mixture.components)

    def extend(self, state: DecodingState) -> bool:
        """See ``Writing.extend``."""
        self._count += 1
        return self.search.extend(state) or self._count == self.max_tokens

    def drop(self, state: DecodingState) -> Tensor | None:
        """See ``Writing.drop``: a beam follows all components."""
        return None

    @property
    def continued(self) -> tuple[Tensor, Tensor]:
        """See ``Writing.continued``."""
        return self.search.continued

    def result(self) -> DecoderResult:
        """See ``Writing.result``."""
        found = self.search.result()
        return DecoderResult(found.answers, certified=found.certified)
