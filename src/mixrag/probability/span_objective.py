"""The loss of a span model: -log Σ over the right spans of the softmax over all spans and ∅."""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_sum
from mixrag.probability.spans import span_scores


def span_loss(start: Tensor, end: Tensor, possible: Tensor, right: Tensor) -> Tensor:
    """(B,) -log p(right answer) in nats, wherever it stands (Clark and Gardner 2018, section 3.2).

    Args:
        start: (B, L) score of each token as the first of a span.
        end: (B, L) score of each token as the last. The empty answer has the score start + end of token 0.
        possible: (B, L, D) the spans that there are, from token i to token i + d; none of them starts at token 0.
        right: (B, L, D) those of them that are right. Where none is, the empty answer is.

    Example:
        >>> start, end = torch.zeros(1, 3), torch.zeros(1, 3)
        >>> possible = torch.tensor([[[False], [True], [True]]])
        >>> span_loss(start, end, possible, possible & torch.tensor([[[False], [True], [False]]])).exp()
        tensor([3.0000])
    """
    scores = span_scores(start, end, possible.shape[-1])
    empty = start[:, :1] + end[:, :1]
    every = torch.cat([scores.masked_fill(~possible, NEG_INF).flatten(1), empty], 1)
    stated = right.flatten(1).any(1)
    chosen = torch.cat(
        [scores.masked_fill(~right, NEG_INF).flatten(1), empty.masked_fill(stated[:, None], NEG_INF)], 1
    )
    return log_sum(every, 1) - log_sum(chosen, 1)
