"""Scoring many prompts within bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.protocol import Prompt

SCORED_TOKENS_AT_ONCE = 2048
"""Tokens read in one batch of ``log_likelihood``: bounds its memory, not its result. On CPUs more is slower:
a layer's output leaves the processor's cache before the next layer reads it, and rows are padded more."""
DISTRIBUTIONS_AT_ONCE = 2048
"""Answer tokens in one such batch, each with a distribution over the whole vocabulary."""


Score = Callable[[Sequence[Prompt], Sequence[Sequence[int]]], Tensor]


def in_batches(score: Score, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
    """(R, T) on the CPU from a function that scores a few rows at once; rows of similar length go together."""
    longest = max(map(len, answers), default=0)
    result = torch.zeros(len(prompts), longest)
    lengths = [len(prompt.tokens) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    rows = max(1, DISTRIBUTIONS_AT_ONCE // max(1, longest))
    for batch in batches_by_length(lengths, SCORED_TOKENS_AT_ONCE, rows):
        scored = score([prompts[i] for i in batch], [answers[i] for i in batch])
        result[batch, : scored.shape[1]] = scored.cpu()
    return result


def log_probs_of(logits: Tensor, answers: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
    """(R, T) log-probabilities of the tokens of R answers, zero after each answer's end.

    Args:
        logits: (R, L, V) of R rows.
        answers: their answers.
        starts: the position in ``logits`` that predicts the first token of each.
    """
    lengths = [len(answer) for answer in answers]
    rows = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    columns = torch.cat([torch.arange(length) for length in lengths])
    wanted = torch.tensor([token for answer in answers for token in answer], device=logits.device)
    # Only the answers' positions become float32: they are few, a vocabulary is wide.
    losses = torch.nn.functional.cross_entropy(
        logits[rows, torch.tensor(starts)[rows] + columns].float(), wanted, reduction="none"
    )
    scored = torch.zeros(len(lengths), max(lengths, default=0), device=logits.device)
    return scored.index_put((rows.to(logits.device), columns.to(logits.device)), -losses)


def scored_in_parts(tokens: Sequence[int], rows: int) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """A long answer in parts that bound memory: the tokens that ``rows`` rows read next, and those that follow."""
    size = max(1, DISTRIBUTIONS_AT_ONCE // rows)
    for first in range(0, len(tokens) - 1, size):
        read = tokens[first : min(first + size, len(tokens) - 1)]
        yield read, tokens[first + 1 : first + 1 + len(read)]


def pad_right(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (R, L) and the mask (R, L) that is False at the padding after each row."""
    length = max(len(row) for row in rows)
    ids = torch.tensor([list(row) + [0] * (length - len(row)) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(length, device=device) < lengths.unsqueeze(1)


def select_rows(cache: Any, rows: Tensor) -> Any:
    """A transformers cache with copies of these rows; ``cache`` itself is not changed."""
    selected = shallow_copy(cache)
    selected.reorder_cache(rows)
    return selected


def shallow_copy(cache: Any) -> Any:
    """A transformers cache whose layers can be given other rows without a change to those of ``cache``."""
    found = copy(cache)
    for name in ("self_attention_cache", "cross_attention_cache"):  # of an encoder-decoder model
        if hasattr(found, name):
            setattr(found, name, shallow_copy(getattr(found, name)))
    if "layers" in vars(found):
        found.layers = [copy(layer) for layer in found.layers]
    return found


def is_identity(rows: Tensor, size: int) -> bool:
    """True where the rows ``rows`` (R',) are all ``size`` rows in their order."""
    return len(rows) == size and bool((rows == torch.arange(size, device=rows.device)).all())


def batches_by_length(lengths: Sequence[int], tokens: int, rows: int) -> list[list[int]]:
    """Indices in groups of similar length: at most ``rows`` each, and at most ``tokens`` with padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        size = len(batches[-1]) + 1 if batches else 0
        if batches and size <= rows and size * lengths[batches[-1][0]] <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
