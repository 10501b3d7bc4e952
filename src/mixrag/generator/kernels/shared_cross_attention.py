"""Cross-attention that stores the keys and values of a prompt once for all answers written from it.

A beam search follows W answers from each of P prompts. The keys and values of a prompt depend on the prompt alone,
yet transformers stores them for each of the W · P rows, and copies them whenever rows are reordered. Here the W
queries of a prompt are one matrix, multiplied with one copy. The function is registered with transformers under
``NAME``, which then calls it in every layer of a model.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

NAME = "mixrag-shared"
FUSED = "sdpa"
"""transformers' name of torch's fused attention."""


def shared_cross_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """torch's fused attention of W · P rows to P prompts; the usual one if there are as many keys as rows.

    Args:
        module: the attention layer.
        query: (W · P, H, T, D), H heads, T new tokens, D values a head; rows in the order (W, P).
        key: (P, H, S, D), S tokens of a prompt.
        value: (P, H, S, E).
        attention_mask: (P or 1, 1 or H, 1 or T, S): False at padding, or added to the scores; None: no mask.
        position_bias: (1 or P, H, 1 or T, S), added to the scores.
        options: of the fused attention.

    Returns:
        (W · P, T, H, E), and None instead of the attention weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, heads, new, size = query.shape
    prompts = key.shape[0]
    options |= {"position_bias": position_bias}
    if rows == prompts:
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found
    answers = rows // prompts
    together = query.view(answers, prompts, heads, new, size).permute(1, 2, 0, 3, 4).flatten(2, 3)
    options |= {"position_bias": _of_each(position_bias, answers), "is_causal": False}
    mixed, _ = sdpa_attention_forward(module, together, key, value, _of_each(attention_mask, answers), **options)
    parted = mixed.view(prompts, answers, new, heads, value.shape[-1]).transpose(0, 1)
    return parted.reshape(rows, new, heads, value.shape[-1]), None


def _of_each(added: Tensor | None, answers: int) -> Tensor | None:
    """A mask or bias for one answer's T tokens, repeated for the tokens of all answers."""
    return added if added is None or added.shape[2] == 1 else added.repeat(1, 1, answers, 1)


def use_shared_cross_attention(model: Any) -> bool:
    """Change a model from torch's fused attention to this one. True if transformers accepted it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if model.config._attn_implementation != FUSED:
        return False
    AttentionInterface.register(NAME, shared_cross_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return uses_shared_cross_attention(model)


def uses_shared_cross_attention(model: Any) -> bool:
    """True if a model uses this attention."""
    return bool(model.config._attn_implementation == NAME)


def distinct_prompts(prompts: Tensor) -> Tensor:
    """(P,) distinct prompts, if the rows (R,) are in the order (W, P) of these; else ``prompts`` itself.

    Args:
        prompts: (R,) the prompt of each row.

    Example:
        >>> distinct_prompts(torch.tensor([0, 2, 0, 2])), distinct_prompts(torch.tensor([0, 0, 2]))
        (tensor([0, 2]), tensor([0, 0, 2]))
    """
    repeated = (prompts == prompts[0]).nonzero()[:, 0]
    period = int(repeated[1]) if len(repeated) > 1 else len(prompts)
    if len(prompts) % period or not bool((prompts.view(-1, period) == prompts[:period]).all()):
        return prompts
    return prompts[:period]
