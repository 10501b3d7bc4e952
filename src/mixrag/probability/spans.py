"""Scores of spans from scores of their ends: log p(span) ∝ start_i + end_j, and the empty answer.

Devlin et al. 2019, "BERT", section 4.3 (SQuAD 2.0): ∅ has the score start + end of the first token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF


def span_scores(start: Tensor, end: Tensor, longest: int) -> Tensor:
    """(..., L, D) start_i + end_{i+d} of the spans from token i to token i + d, for d < D = ``longest``.

    Args:
        start: (..., L) score of each token as the first of a span.
        end: (..., L) score of each token as the last.
        longest: D, tokens in the longest span.

    Returns:
        -inf where the span would end after the last token.

    Example:
        >>> span_scores(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), 2)
        tensor([[11., 21.],
                [22., -inf]])
    """
    later = torch.nn.functional.pad(end, (0, longest - 1), value=NEG_INF).unfold(-1, longest, 1)
    return start.unsqueeze(-1) + later


def possible_spans(first: Tensor, last: Tensor, region: Tensor, longest: int) -> Tensor:
    """(..., L, D) True where a span may start at token i and end at token i + d.

    Args:
        first: (..., L) True where a span may start.
        last: (..., L) True where one may end.
        region: (..., L) number of the text that a token is part of; a span lies in one.
        longest: D.
    """
    may_end = torch.nn.functional.pad(last, (0, longest - 1), value=False).unfold(-1, longest, 1)
    ends_in = torch.nn.functional.pad(region, (0, longest - 1), value=-1).unfold(-1, longest, 1)
    return first.unsqueeze(-1) & may_end & (ends_in == region.unsqueeze(-1))
