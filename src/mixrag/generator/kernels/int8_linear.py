"""Linear layers in eight bits (W8A8): weights are quantised once, inputs at every product.

A weight is an integer between -127 and 127 times one scale for each output. An input row is integers between 0 and
255 (128 is zero) times one scale for the row: its largest absolute value over 127. Products of integers are exact,
and a row is quantised by itself, so that the other rows of a batch do not change its result.
(Dettmers et al. 2022, LLM.int8(), section 2.1: vector-wise quantisation, here without separate outliers.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mixrag.utils.cpu_features import native_int8

LARGEST = 127
SMALLEST = 1e-30
ZERO = 128
"""The integer that means zero in an input row: CPUs multiply unsigned by signed bytes."""


class Int8Linear(nn.Module):
    """x Wᵀ + b of a linear layer, both factors in eight bits; the result has the dtype of x."""

    weight: Tensor
    """(out, in) int8."""
    scale: Tensor
    """(out,) float32: the step between two values of a weight."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Of a layer's weight (out, in) and bias (out,)."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        rounded, scale = rounded_weight(weight.detach())
        self.register_buffer("weight", rounded)
        self.register_buffer("scale", scale)
        self.bias = bias
        self._packed = _packed(rounded)
        self._zeros = torch.zeros(self.out_features, dtype=torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        """(..., out) from (..., in)."""
        read, scale = rounded_rows(x)
        products: Tensor
        if self._packed is None or not x.numel():
            # The reference, in float64, which represents sums of products of bytes exactly.
            products = ((read.double() - ZERO) @ self.weight.double().T * self.scale).float()
        else:
            products = torch.ops.onednn.qlinear_pointwise(
                read, 1.0, ZERO, self._packed, self.scale, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
            )
        products = torch.mul(products, scale, out=torch.empty(products.shape, dtype=x.dtype))
        return products if self.bias is None else products + self.bias.to(x.dtype)


def rounded_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) int8 and (out,) float32 scales."""
    scale = _scale(weight)
    return (weight / scale).round().to(torch.int8).contiguous(), scale.squeeze(-1)


def rounded_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """(..., in) uint8 with ``ZERO`` for zero, and (..., 1) float32 scales."""
    scale = _scale(x)
    return (x / scale).add_(ZERO + 0.5).to(torch.uint8), scale


def _scale(x: Tensor) -> Tensor:
    """(..., 1) float32; a tiny positive number for a row of zeros."""
    largest = x.abs().amax(-1, keepdim=True).float()
    return largest.clamp_(min=SMALLEST).div_(LARGEST)


def use_int8(model: Any) -> Any:
    """The model, its linear layers (GPT-2's are transposed) replaced by ``Int8Linear``, in place."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, Int8Linear(layer.weight, layer.bias))
            elif type(layer) is Conv1D:
                setattr(parent, name, Int8Linear(layer.weight.T, layer.bias))
    return model


def _packed(weight: Tensor) -> Tensor | None:
    """The weight in oneDNN's layout; None where its products would not be exact, or torch does not offer them."""
    if not native_int8() or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return None
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed
