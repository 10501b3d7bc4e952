"""Beam searches of several questions side by side: the answers of all of them are rows of one batch.

What comes out is, question by question, what ``beam`` finds alone, up to the order of additions in larger batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch

from mixrag.inference.batch import ROWS, Share, batches_by_rows, shared_states
from mixrag.inference.beam_search import BeamSearch, SearchResult
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture


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
    searches = [BeamSearch(mixture, width) for mixture in mixtures]
    active = list(zip(searches, shared_states(mixtures), strict=True))
    for position in range(max_tokens):
        active = [(search, state) for search, state in active if not search.extend(state)]
        if not active or position + 1 == max_tokens:
            break
        active = _advanced(active)
    return [search.result() for search in searches]


def _advanced(active: Sequence[tuple[BeamSearch, DecodingState]]) -> list[tuple[BeamSearch, DecodingState]]:
    """Every search with its state after the tokens that it has chosen, which one pass reads."""
    rows, tokens, weights = [], [], []
    for search, state in active:
        share, size = cast(Share, state.branches), state.log_weights.shape[1]
        parents, chosen = (each.to(share.rows.device) for each in search.continued)
        places = parents[:, None] * size + torch.arange(size, device=parents.device)
        rows.append(share.rows[places.flatten()])
        tokens.append(chosen.repeat_interleave(size))
        weights.append(state.later_weights(parents, chosen))
    branches = cast(Share, active[0][1].branches).branches.advance(torch.cat(rows), torch.cat(tokens))
    places = torch.arange(len(branches.log_probs), device=branches.log_probs.device)
    shares = [Share(branches, own) for own in places.split([*map(len, rows)])]
    return [
        (search, DecodingState(share, later, state.log_prior, state.switch))
        for (search, state), share, later in zip(active, shares, weights, strict=True)
    ]
