"""Scoring many prompts within bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixrag.generator.protocol import Prompt

SCORED_TOKENS_AT_ONCE = 8192
"""Tokens read in one batch of ``log_likelihood``: bounds its memory, not its result."""
DISTRIBUTIONS_AT_ONCE = 2048
"""Answer tokens in one such batch, each with a distribution over the whole vocabulary."""


def in_batches(
    score: Callable[[Sequence[Prompt], Sequence[int]], Tensor], prompts: Sequence[Prompt], answer: Sequence[int]
) -> Tensor:
    """(K, T) from a function that scores some prompts at once; prompts of like length go together."""
    result = torch.empty(len(prompts), len(answer))
    lengths = [len(prompt.tokens) + len(answer) for prompt in prompts]
    rows = max(1, DISTRIBUTIONS_AT_ONCE // max(1, len(answer)))
    for batch in batches_by_length(lengths, SCORED_TOKENS_AT_ONCE, rows):
        result[batch] = score([prompts[i] for i in batch], answer)
    return result


def log_probs_of(logits: Tensor, answer: Sequence[int]) -> Tensor:
    """(K, T) log-probabilities of the answer's tokens, from logits (K, T, V)."""
    logits = logits.float()
    wanted = torch.tensor(list(answer), device=logits.device).expand(len(logits), -1)
    return (logits.gather(-1, wanted.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)).cpu()


def batches_by_length(lengths: Sequence[int], tokens: int, rows: int) -> list[list[int]]:
    """Indices in groups of like length: at most ``rows`` each, and at most ``tokens`` with padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        size = len(batches[-1]) + 1 if batches else 0
        if batches and size <= rows and size * lengths[batches[-1][0]] <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
