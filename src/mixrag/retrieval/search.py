"""One search: from an encoded question to the best passages with their scores, and what is known of log Z."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mixrag.errors import SettingError, StoreEmptyError
from mixrag.probability import log_hybrid_bounds
from mixrag.retrieval.candidates import Candidates, Query, find_candidates
from mixrag.retrieval.index import CompleteIndex, Hits


class Found(NamedTuple):
    """What a search found."""

    every: Candidates
    """All that were looked at."""
    best: Candidates
    """The k best of them, best first, with inner products in float64."""


def search(index: CompleteIndex, query: Query, *, exact: bool) -> Found:
    """The k best passages for a question.

    Raises:
        SettingError: with ``exact``, an index that does not compute all inner products.
        StoreEmptyError: the index returned nothing.
    """
    found = find_candidates(index, query, exact=exact)
    if found is None:
        needed = "exact search for the full normaliser, k = 'all' or max_outside"
        raise SettingError(needed, f"an index without it ({index.description})", "choose index 'exact'")
    if len(found.rows) == 0:
        raise StoreEmptyError("passages from the index", "none", "choose index 'exact'")
    chosen = found.best(query.k)
    found = found.refined(chosen, index.vectors_of(found.rows[chosen]))
    return Found(found, found.at(chosen[found.at(chosen).best(query.k)]))


def log_z_bounds(index: CompleteIndex, found: Candidates) -> Tensor | None:
    """(2,) bounds on log Z where a search did not look at all passages.

    None where the index has none, or not under this filter.
    """
    query, dense = found.query, 1.0 - found.query.lexical
    if query.allowed is not None:
        return None
    if dense == 0.0:
        bounds: tuple[float, float] | None = (math.log(query.count),) * 2
    else:
        # Of a dense search alone little is known; the index itself looks at more.
        known = Hits(found.rows, found.inner_products.numpy()) if query.lexical > 0.0 else None
        bounds = index.log_normaliser_bounds(query.vector, query.temperature / dense, known)
    if bounds is None:
        return None
    log_dense = torch.tensor(bounds, dtype=torch.float64)
    if query.lexical == 0.0:
        return log_dense
    seen = (dense * found.inner_products / query.temperature).logsumexp(0)
    largest = query.lexical * found.largest_bm25 / query.lexical_temperature
    return log_hybrid_bounds(log_dense, seen, found.scores.logsumexp(0), largest)
