"""BERT as a function of its weights: what transformers computes, in the same order, without transformers.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mixrag.generator.light.entries import UnlikeError

WEIGHTS = "model.safetensors"
_EMBEDDING = "embeddings.word_embeddings.weight"
_EXPECTED = {"model_type": "bert", "hidden_act": "gelu"}
_ABSENT = {"position_embedding_type": "absolute", "is_decoder": False, "chunk_size_feed_forward": 0}
"""What other values of a configuration would change; these are the values where nothing is stated."""


def refuse_unknown(config: Mapping[str, Any]) -> None:
    """Refuse a configuration with something that is not computed here.

    Raises:
        UnlikeError: it has.
    """
    for name, value in (*_EXPECTED.items(), *_ABSENT.items()):
        if config.get(name, _ABSENT.get(name)) != value:
            raise UnlikeError(f"{name} {config.get(name)!r}")


def read_bert(folder: Path, config: Mapping[str, Any]) -> Bert:
    """The model of a folder with ``model.safetensors``, whose weights are mapped, not read.

    Raises:
        UnlikeError: another kind of model.
        OSError, ValueError: no such file, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    refuse_unknown(config)
    try:
        return Bert(load_file(folder / WEIGHTS), config)
    except (SafetensorError, KeyError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error


class Bert:
    """Weights of a BERT by name, in float32, and its forward pass on the processor."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        prefix = next((name for name in weights if name.endswith(_EMBEDDING)), "").removesuffix(_EMBEDDING)
        self.weights = {name.removeprefix(prefix): each.float() for name, each in weights.items()}
        self.layers, self.heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))
        self.size = int(self.weights[_EMBEDDING].shape[1])
        """D"""

    @torch.inference_mode()
    def hidden(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(R, L, D) the last layer's output for tokens (R, L), a mask (R, L) and segments (R, L)."""
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        places = torch.arange(input_ids.shape[1]).unsqueeze(0)
        part = "embeddings.{}_embeddings.weight"
        found = functional.embedding(input_ids, self.weights[part.format("word")])
        found = found + functional.embedding(types, self.weights[part.format("token_type")])
        found = found + functional.embedding(places, self.weights[part.format("position")])
        found = self._normalised("embeddings.LayerNorm", found)
        mask = None if bool(attention_mask.all()) else attention_mask.bool()[:, None, None, :]
        for number in range(self.layers):
            found = self._layer(f"encoder.layer.{number}", found, mask)
        return found

    def linear(self, name: str, values: Tensor) -> Tensor:
        """The linear layer of this name."""
        return functional.linear(values, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _layer(self, name: str, given: Tensor, mask: Tensor | None) -> Tensor:
        rows, length, size = given.shape
        query, key, value = (
            self.linear(f"{name}.attention.self.{part}", given).view(rows, length, self.heads, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        seen = seen.transpose(1, 2).reshape(rows, length, size)
        seen = self.linear(f"{name}.attention.output.dense", seen)
        seen = self._normalised(f"{name}.attention.output.LayerNorm", seen + given)
        wide = functional.gelu(self.linear(f"{name}.intermediate.dense", seen))
        return self._normalised(f"{name}.output.LayerNorm", self.linear(f"{name}.output.dense", wide) + seen)

    def _normalised(self, name: str, values: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(values, weight.shape, weight, bias, self.epsilon)


class SpanBert:
    """A BERT for extractive question answering, called as a model of transformers is.

    Whatever else is asked of it is asked of transformers' own, which is loaded then.
    """

    def __init__(self, bert: Bert, config: Mapping[str, Any], load: Callable[[], Any]) -> None:
        self.bert, self.config, self._load = bert, SimpleNamespace(**config), load
        self.dtype, self.device = bert.dtype, bert.device
        self._reference: Any = None

    @property
    def reference(self) -> Any:
        """The model of transformers."""
        if self._reference is None:
            self._reference = self._load()
        return self._reference

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.reference, name)

    def __call__(self, **inputs: Tensor) -> SimpleNamespace:
        """``start_logits`` and ``end_logits`` (R, L)."""
        scores = self.bert.linear("qa_outputs", self.bert.hidden(**inputs))
        return SimpleNamespace(start_logits=scores[..., 0], end_logits=scores[..., 1])

    def modules(self) -> list[Any]:
        """No modules of torch: all layers are in float32."""
        return []


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration in a model's folder; empty where there is none that can be read."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
