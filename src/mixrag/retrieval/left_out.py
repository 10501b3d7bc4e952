"""A retrieval as if some of its passages had not been found."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import torch

from mixrag.errors import QuestionError
from mixrag.probability import log_sum, shifted_share
from mixrag.retrieval.retriever import Retrieval


def leave_out(found: Retrieval, ids: Collection[str]) -> Retrieval:
    """The retrieval had these passages never been found: π_i / (1 - π_R) for the others, R being those left out.

    No other passage takes their place. ``outside`` is again a share of all that is left.

    Raises:
        QuestionError: an id of no passage found, or nothing would be left.
    """
    if not ids:
        return found
    known = [passage.id for passage in found.passages]
    for each in ids:
        if each not in known:
            raise QuestionError(
                "an id of a passage that is found", repr(each[:80]), "see the passages of an answer"
            )
    left = torch.tensor([i for i, each in enumerate(known) if each not in ids], dtype=torch.long)
    removed = torch.tensor([i for i, each in enumerate(known) if each in ids], dtype=torch.long)
    log_total = _log_total(found)
    others = replace(found, log_prior=found.log_prior[left])
    log_rest = float(log_sum(torch.tensor([_log_total(others), _log_missing(log_total)], dtype=torch.float64), 0))
    if log_rest == -math.inf or (not len(left) and found.log_null is None):
        raise QuestionError("a passage that is not left out", "none", "leave out fewer")
    share = math.exp(float(log_sum(found.log_prior[removed], 0)) - log_total)
    bounds = found.outside_bounds
    least, most = shifted_share(share, -found.shift), shifted_share(share, found.shift)
    return replace(
        found,
        passages=tuple(found.passages[i] for i in left.tolist()),
        log_prior=found.log_prior[left] - log_rest,
        inner_products=found.inner_products[left],
        withheld=tuple(found.withheld[i] for i in left.tolist()) if found.withheld else (),
        log_null=None if found.log_null is None else found.log_null - log_rest,
        outside=None if found.outside is None else _outside(found.outside, share),
        outside_bounds=None if bounds is None else (_outside(bounds[0], least), _outside(bounds[1], most)),
    )


def _log_total(found: Retrieval) -> float:
    """Log of the prior mass of the passages, and of the null component: 0 under the top-k normaliser."""
    null = torch.tensor([-math.inf if found.log_null is None else found.log_null], dtype=torch.float64)
    return float(log_sum(torch.cat([found.log_prior.double(), null]), 0))


def _log_missing(log_total: float) -> float:
    """Log of the mass that a truncated prior leaves out."""
    missing = -math.expm1(min(0.0, log_total))
    return math.log(missing) if missing > 1e-12 else -math.inf


def _outside(outside: float, share: float) -> float:
    """ε / (1 - s (1 - ε)), where a share s of the mass 1 - ε is left out; it grows with ε."""
    left = 1.0 - share * (1.0 - outside)
    return min(1.0, outside / left) if left > 0.0 else 1.0
