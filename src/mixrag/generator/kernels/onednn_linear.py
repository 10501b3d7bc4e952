"""Linear layers on CPUs with weights packed for oneDNN: a second copy of each weight, in oneDNN's own layout.

torch multiplies float32 matrices with MKL, which on CPUs other than Intel's can be less than half as fast as
oneDNN with packed weights, from ten rows to hundreds (see the benchmarks in the documentation). Results are equal
up to the order of additions. The operators are the ones that torch's own compiler emits for a frozen model.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mixrag.utils.cpu_features import native_bfloat16

LARGEST = 2**31
"""Bytes of weights above which no second copy is made."""
_PACKED: WeakKeyDictionary[nn.Module, tuple[Tensor, int, Tensor]] = WeakKeyDictionary()
"""For each layer its weight, torch's count of changes to it, and the packed weight. Stored outside of the layers,
so that code that copies, saves or trains a model does not see it."""


class OneDNNLinear(nn.Linear):
    """``nn.Linear`` that uses packed weights where no gradient is needed; packed again when torch counts a change.

    torch does not count changes to ``weight.data``, nor to weights created in inference mode: code that makes such
    changes, such as merging an adapter, must call ``use_torch_linears`` first.
    """

    def forward(self, input: Tensor) -> Tensor:
        """x Wᵀ + b."""
        if not self._packable(input):
            return super().forward(input)
        read = input.contiguous()
        product: Tensor = torch.ops.mkldnn._linear_pointwise(read, packed(self), self.bias, "none", [], "")
        return product

    def _packable(self, input: Tensor) -> bool:
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
        alike = input.dtype == self.weight.dtype and input.device == self.weight.device
        return not plain and alike and _packable(self.weight)


def packed(layer: nn.Linear) -> Tensor:
    """The layer's weight in oneDNN's layout; cached until the weight has another address or was changed."""
    weight = layer.weight
    changes = 0 if weight.is_inference() else weight._version
    known = _PACKED.get(layer)
    if known is None or known[0].data_ptr() != weight.data_ptr() or known[1] != changes:
        seen = weight.detach()  # shares the memory, so that no other weight can get the same address
        known = _PACKED[layer] = (seen, changes, torch.ops.mkldnn._reorder_linear_weight(seen))
    return known[2]


def use_onednn_linears(model: Any) -> bool:
    """Change the linear layers of a model on a CPU to ``OneDNNLinear``, in float32 or bfloat16. True if any was.

    Weights are packed when they are first used; from then on they take twice the memory. A model of more than
    ``LARGEST`` bytes is not changed.
    """
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear]
    if sum(layer.weight.nbytes for layer in layers) > LARGEST:
        return False
    candidates = [layer for layer in layers if _packable(layer.weight)]
    usable = {dtype for dtype in {layer.weight.dtype for layer in candidates} if _available(dtype)}
    found = [layer for layer in candidates if layer.weight.dtype in usable]
    for layer in found:
        layer.__class__ = OneDNNLinear
    return bool(found)


def use_torch_linears(model: Any) -> None:
    """Undo ``use_onednn_linears``: before changes to weights that torch does not count."""
    for layer in model.modules():
        if type(layer) is OneDNNLinear:
            layer.__class__ = nn.Linear  # type: ignore[assignment]
            _PACKED.pop(layer, None)


def _packable(weight: Tensor) -> bool:
    """Half precision only where the CPU supports it: elsewhere it is emulated."""
    wide = weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and native_bfloat16())
    return wide and weight.device.type == "cpu"


def _available(dtype: torch.dtype = torch.float32) -> bool:
    """The operators are internal ones of torch, which may change: a trial shows if they work."""
    layer = nn.Linear(8, 8, dtype=dtype)
    read = torch.linspace(-1, 1, 16).view(2, 8).to(dtype)
    try:
        with torch.inference_mode():
            weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight)
            found = torch.ops.mkldnn._linear_pointwise(read, weight, layer.bias, "none", [], "")
            return bool(torch.allclose(found, layer(read), atol=8 * torch.finfo(dtype).eps))
    except (AttributeError, RuntimeError):
        return False
