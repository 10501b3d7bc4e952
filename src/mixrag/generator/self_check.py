"""Faster ways to run a model, used only if a trial at loading shows that they give the same distributions."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.causal import CausalGenerator
from mixrag.generator.protocol import Prompt
from mixrag.generator.seq2seq import Seq2SeqGenerator

logger = logging.getLogger("mixrag.generator")
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1
"""Twice the total variation by which two ways to compute one distribution may differ: float32, half precision."""


def with_prefix_cache(generator: CausalGenerator, budget: int) -> CausalGenerator:
    """The generator with a prefix cache of ``budget`` MiB, if its model's states can be cached.

    A trial decides: the next token's distribution after a cached passage must be that after the whole prompt.
    """
    from mixrag.generator.kv_cache import uncacheable

    if not budget:
        return replace(generator, prefix_cache_bytes=None)
    if (reason := uncacheable(generator.model.config)) is not None:
        logger.debug("no prefix cache for %s: %s", generator.name, reason)
        return replace(generator, prefix_cache_bytes=None)
    whole, found = (replace(generator, prefix_cache_bytes=each) for each in (None, budget * 2**20))
    trial = [Prompt((), (1, 2, 3, 4, 5, 6, 7), (8, 9)), Prompt((), (1, 2), (8, 9))]
    try:
        expected, cached = (each.start(trial).log_probs.exp() for each in (whole, found))
    except Exception:  # a model's own code may raise anything when it is given states in another cache
        return whole
    agree = _agree(generator.model, expected, cached)
    return replace(found) if agree else whole  # a copy, whose cache is empty


def with_shared_cross_attention(generator: Seq2SeqGenerator) -> Seq2SeqGenerator:
    """The generator, its model changed to share the states of a prompt between answers, if it can.

    A trial decides: the distributions after two answers from each of two prompts must not change.
    See ``kernels/shared_cross_attention.py``.
    """
    from mixrag.generator.kernels.shared_cross_attention import (
        FUSED,
        use_shared_cross_attention,
        uses_shared_cross_attention,
    )

    expected = _distributions_of_two_answers(generator)
    try:
        shared = use_shared_cross_attention(generator.model)
        agree = shared and _agree(generator.model, expected, _distributions_of_two_answers(generator))
    except Exception:  # a model's own code may raise anything when it has fewer keys than rows
        agree = False
    if not agree and uses_shared_cross_attention(generator.model):
        generator.model.set_attn_implementation(FUSED)
    return generator


def _distributions_of_two_answers(generator: Seq2SeqGenerator) -> Tensor:
    """(4, V) after two answers from each of two prompts, their rows reordered once."""
    branches = generator.start([Prompt((), (1, 2, 3, 4, 5, 6, 7), (8, 9)), Prompt((), (1, 2), (8, 9))])
    device = branches.log_probs.device
    for rows, tokens in (((0, 1, 0, 1), (3, 3, 4, 4)), ((2, 3, 0, 1), (5, 5, 6, 6))):
        branches = branches.advance(torch.tensor(rows, device=device), torch.tensor(tokens, device=device))
    return branches.log_probs.exp()


def _agree(model: Any, expected: Tensor, found: Tensor) -> bool:
    tolerance = TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    return bool(((expected - found).abs().sum(-1) < tolerance).all())
