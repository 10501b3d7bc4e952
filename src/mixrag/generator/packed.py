"""Linear layers in float32 on processors: weights kept a second time, in the order in which oneDNN reads them.

torch multiplies float32 matrices by MKL, which on processors that are not Intel's may reach less than half of what
oneDNN does with such weights (``docs/benchmarks.md``), from ten rows to hundreds. The numbers are the same up to
the order of additions. The operators are those that torch's own compiler emits for a frozen model.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_PACKED: WeakKeyDictionary[nn.Module, tuple[tuple[int, int], Tensor]] = WeakKeyDictionary()
"""Beside the layers, so that what copies, saves or trains a model knows nothing of it."""


class PackedLinear(nn.Linear):
    """``nn.Linear``, whose product without gradient takes packed weights; packed again whenever they changed."""

    def forward(self, input: Tensor) -> Tensor:
        """x Wᵀ + b."""
        if not self._packable(input):
            return super().forward(input)
        read = input.contiguous()
        product: Tensor = torch.ops.mkldnn._linear_pointwise(read, packed(self), self.bias, "none", [], "")
        return product

    def _packable(self, input: Tensor) -> bool:
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
        return not plain and _is_float32(input) and _is_float32(self.weight)


def packed(layer: nn.Linear) -> Tensor:
    """The layer's weight as oneDNN reads it, kept for as long as it lies where it lay and was not changed."""
    weight = layer.weight
    key = (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
    known = _PACKED.get(layer)
    if known is None or known[0] != key:
        known = _PACKED[layer] = (key, torch.ops.mkldnn._reorder_linear_weight(weight.detach()))
    return known[1]


def use_packed_linears(model: Any) -> bool:
    """Let the linear layers of a float32 model on a processor multiply so. True where they do.

    Packed when first used: from then on these weights take their memory twice.
    """
    if model.dtype != torch.float32 or model.device.type != "cpu" or not _available():
        return False
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = PackedLinear
    return True


def _is_float32(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _available() -> bool:
    """These operators are torch's own, and not promised: they are asked for, and tried."""
    layer = nn.Linear(8, 8)
    read = torch.linspace(-1, 1, 16).view(2, 8)
    try:
        with torch.inference_mode():
            weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight)
            found = torch.ops.mkldnn._linear_pointwise(read, weight, layer.bias, "none", [], "")
            return bool(torch.allclose(found, layer(read), atol=1e-5))
    except (AttributeError, RuntimeError):
        return False
