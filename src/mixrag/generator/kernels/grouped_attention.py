"""Grouped-query attention for CPUs, in bfloat16: the heads of a group share their keys and values.

transformers copies keys and values for every head of a group before torch's fused attention, whose bfloat16
kernels are slow on CPUs (those for float32 and float16 are not). Here the queries of a group are one matrix, and
nothing is copied. The function is registered with transformers under ``NAME``, which then calls it in every layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop

NAME = "mixrag-grouped"
SCORES_AT_ONCE = 2**22
"""Scores of one layer above which torch's fused attention, which never stores them all, is used: more than 16 MB
of them do not fit into a CPU's caches, and then the fused kernel is faster in bfloat16 too."""


def grouped_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """softmax(scaling · q kᵀ + mask) v, as transformers' eager attention.

    Args:
        module: the attention layer; only ``training`` is read.
        query: (R, H, T, D), R rows, H heads, T new tokens, D values a head.
        key: (R, G, L, D), G groups of H/G heads in a row, L tokens in all.
        value: (R, G, L, E).
        attention_mask: (R or 1, 1 or H, T, L), added to the scores; None: no mask.
        scaling: factor of the inner products; None is 1/√D.
        dropout: share of the weights dropped while training.
        softcap: scores are limited to ±softcap by tanh (Gemma 2).
        position_bias: (1 or R, H, T, L), added to the scores.
        options: further arguments of the fused attention.

    Returns:
        (R, T, H, E), and None instead of the attention weights.
    """
    rows, heads, new, size = query.shape
    groups, length = key.shape[1], key.shape[2]
    if softcap is None and rows * heads * new * length > SCORES_AT_ONCE:
        options |= {"dropout": dropout, "scaling": scaling, "position_bias": position_bias}
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found
    together = query.reshape(rows, groups, heads // groups * new, size)
    scores = _products(together, key).reshape(rows, heads, new, length)
    # A mask is the lowest number of its dtype: in half precision a score added to it would overflow.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    scores = scores * (size**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    for added in (position_bias, attention_mask):
        if added is not None:
            scores = scores + added
    weights = drop(scores.softmax(-1).to(value.dtype), dropout, module.training)
    mixed = weights.view(rows, groups, heads // groups * new, length) @ value
    return mixed.view(rows, heads, new, value.shape[-1]).transpose(1, 2).contiguous(), None


def _products(queries: Tensor, keys: Tensor) -> Tensor:
    """(R, G, N, L) inner products of queries (R, G, N, D) with keys (R, G, L, D)."""
    if queries.shape[-2] >= queries.shape[-1]:
        return queries @ keys.transpose(-1, -2)
    # torch copies a transposed view of a buffer; with the keys on the left it copies the fewer products.
    return (keys @ queries.transpose(-1, -2)).transpose(-1, -2)


def use_grouped_attention(model: Any) -> bool:
    """Change a model on a CPU to use this attention, if its own can be replaced. True if it was changed."""
    if model.device.type != "cpu" or not getattr(model, "_supports_attention_backend", False):
        return False
    # A model whose attention has more inputs than are known here (such as sinks) does not support sdpa either.
    capped = getattr(model.config, "attn_logit_softcapping", None) is not None
    if not capped and not getattr(model, "_supports_sdpa", False):
        return False
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    model.set_attn_implementation(NAME)
    return True
