"""Faster ways through a model, taken where a trial at loading finds that they lead to the same laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.causal import CausalGenerator
from mixrag.generator.protocol import Prompt
from mixrag.generator.seq2seq import Seq2SeqGenerator

SAME, ROUNDED = 1e-3, 0.1
"""Twice the total variation by which two ways to one law may differ, in float32 and in half precision."""


def with_prefix_cache(generator: CausalGenerator, budget: int) -> CausalGenerator:
    """The generator with ``budget`` MiB for passages read before, where its model's states can be kept.

    That is found by trial: what follows a question read behind a passage must have the law of the whole prompt.
    """
    from mixrag.generator.kv_cache import uncacheable

    if not budget or uncacheable(generator.model.config) is not None:
        return replace(generator, passage_budget=None)
    whole, found = (replace(generator, passage_budget=each) for each in (None, budget * 2**20))
    trial = [Prompt((), (1, 2, 3, 4, 5, 6, 7), (8, 9)), Prompt((), (1, 2), (8, 9))]
    try:
        expected, law = (each.start(trial).log_probs.exp() for each in (whole, found))
    except Exception:  # whatever a model's own code raises at states that are not its own
        return whole
    agree = _agree(generator.model, expected, law)
    return replace(found) if agree else whole  # a copy, in whose cache the trial has left nothing


def with_shared_prompts(generator: Seq2SeqGenerator) -> Seq2SeqGenerator:
    """The generator, its model keeping one copy of each prompt for all answers (``sharing.py``), where it can.

    That is found by trial, as for passages: two answers from each of two prompts must have the laws they had.
    """
    from mixrag.generator.kernels.shared_cross_attention import FUSED, shares, use_shared_attention

    expected = _laws_of_two_answers(generator)
    try:
        shared = use_shared_attention(generator.model)
        agree = shared and _agree(generator.model, expected, _laws_of_two_answers(generator))
    except Exception:  # whatever a model's own code raises at fewer keys than rows
        agree = False
    if not agree and shares(generator.model):
        generator.model.set_attn_implementation(FUSED)
    return generator


def _laws_of_two_answers(generator: Seq2SeqGenerator) -> Tensor:
    """(4, V) of two answers from each of two prompts, which have changed places."""
    branches = generator.start([Prompt((), (1, 2, 3, 4, 5, 6, 7), (8, 9)), Prompt((), (1, 2), (8, 9))])
    device = branches.log_probs.device
    for rows, tokens in (((0, 1, 0, 1), (3, 3, 4, 4)), ((2, 3, 0, 1), (5, 5, 6, 6))):
        branches = branches.advance(torch.tensor(rows, device=device), torch.tensor(tokens, device=device))
    return branches.log_probs.exp()


def _agree(model: Any, expected: Tensor, laws: Tensor) -> bool:
    tolerance = SAME if model.dtype == torch.float32 else ROUNDED
    return bool(((expected - laws).abs().sum(-1) < tolerance).all())
