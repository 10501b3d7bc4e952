"""Many texts at once: batches of similar length, and a transformer that computes in bfloat16.

The model stays that of sentence-transformers: it tokenises, pools and normalises. This module decides which texts
share a batch, and the dtype in which the transformer multiplies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.adapter import cast
from mixrag.generator.kernels.grouped_attention import use_grouped_attention
from mixrag.generator.kernels.onednn_linear import use_onednn_linears

WINDOW = 2048
"""Texts that are tokenised, and sorted by length, at a time."""
TOKENS = {"cpu": 1024}
"""Tokens of one batch: few on a processor, so that the activations between two layers stay in its caches."""
MANY_TOKENS = 16384
"""Tokens of one batch on other devices."""
_AFTER = {"Pooling", "Normalize", "Dense", "LayerNorm"}
_Features = Mapping[str, Any]


def unsupported(model: Any) -> str | None:
    """Why a sentence-transformers model cannot be run in these batches; None: it can.

    It needs one transformer that reads text, padded on the right, and modules that make one vector of its output.
    """
    first, *others = (type(module).__name__ for module in model)
    if first != "Transformer":
        return f"its first module is {first}, not Transformer"
    odd = [name for name in others if name not in _AFTER]
    if odd or not others:
        return f"a module {odd[0]} after its transformer" if odd else "no pooling after its transformer"
    if getattr(model.tokenizer, "padding_side", None) != "right":
        return "its texts are not padded on the right"
    return None


def buckets(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Positions in batches of at most ``tokens`` tokens, padding counted, the longest texts first.

    >>> list(buckets([3, 9, 4, 8], 16))
    [[1], [3, 2], [0]]
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    while order:
        count = max(1, tokens // max(1, lengths[order[0]]))
        yield order[:count]
        order = order[count:]


def vectors_of(model: Any, texts: Sequence[str], prompt: str | None, task: str) -> Tensor:
    """(M, D) float32 on the processor: ``model.encode`` of texts with this prompt and task.

    Args:
        model: sentence-transformers modules that are not ``unsupported``, or the result of ``rounded``.
        texts: (M,).
        prompt: put before every text; None: no prompt.
        task: "query" or "document", as sentence-transformers calls them.
    """
    parts = [_window(model, texts[start : start + WINDOW], prompt, task) for start in range(0, len(texts), WINDOW)]
    return torch.cat(parts) if parts else torch.empty(0, model.get_embedding_dimension())


def rounded(model: Any) -> Any:
    """A copy whose transformer has weights and products in bfloat16; pooling is in float32 again."""
    first = model[0]
    shared = {id(part): part for part in (first.processor, first.tokenizer)}
    copied = deepcopy(model, shared)
    network = cast(copied[0].model, torch.bfloat16).requires_grad_(False)
    use_grouped_attention(network)
    use_onednn_linears(network)
    copied[0].register_forward_hook(_widen)
    return copied.eval()


@torch.inference_mode()
def _window(model: Any, texts: Sequence[str], prompt: str | None, task: str) -> Tensor:
    features = model.preprocess(list(texts), prompt=prompt, task=task)
    lengths: list[int] = features["attention_mask"].sum(1).tolist()
    found = torch.empty(len(texts), 0)
    for rows in buckets(lengths, TOKENS.get(model.device.type, MANY_TOKENS)):
        vectors = model(_batch(features, rows, lengths[rows[0]], model.device), task=task)["sentence_embedding"]
        vectors = vectors.float().cpu()
        found = found if found.shape[1] else torch.empty(len(texts), vectors.shape[1])
        found[rows] = vectors
    return found if model.truncate_dim is None else found[:, : model.truncate_dim]


def _batch(features: _Features, rows: Sequence[int], length: int, device: Any) -> dict[str, Any]:
    """Some rows of the tokenizer's output, without the columns where all of them are padding."""
    return {
        name: value[rows][:, :length].to(device) if isinstance(value, Tensor) and value.ndim == 2 else value
        for name, value in features.items()
    }


def _widen(module: Any, given: Any, features: dict[str, Any]) -> dict[str, Any]:
    return {**features, "token_embeddings": features["token_embeddings"].float()}
