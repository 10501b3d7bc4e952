"""Linear layers in float32 on processors: weights kept a second time, in the order in which oneDNN reads them.

torch multiplies float32 matrices by MKL, which on processors that are not Intel's may reach less than half of what
oneDNN does with such weights (``docs/measurements/benchmarks.md``), from ten rows to
hundreds. The numbers are the same up to
the order of additions. The operators are those that torch's own compiler emits for a frozen model.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mixrag.utils.cpu_features import native_bfloat16

LARGEST = 2**31
"""Bytes of weights that may be kept twice."""
_PACKED: WeakKeyDictionary[nn.Module, tuple[Tensor, int, Tensor]] = WeakKeyDictionary()
"""Of each layer its weight, how often that had been changed, and the packed one. Beside the layers, so that what
copies, saves or trains a model knows nothing of it."""


class PackedLinear(nn.Linear):
    """``nn.Linear``, whose product without gradient takes packed weights; packed again when torch counts a change.

    It counts none of what is done to ``weight.data``, nor to weights made in inference mode: who changes these,
    as merging an adapter does, first calls ``use_plain_linears``.
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
        return not plain and _packable(self.weight) and _is_like(input, self.weight)


def packed(layer: nn.Linear) -> Tensor:
    """The layer's weight as oneDNN reads it, kept for as long as it lies where it lay and was not changed."""
    weight = layer.weight
    changes = 0 if weight.is_inference() else weight._version
    known = _PACKED.get(layer)
    if known is None or known[0].data_ptr() != weight.data_ptr() or known[1] != changes:
        seen = weight.detach()  # shares its memory, which so cannot become that of another weight
        known = _PACKED[layer] = (seen, changes, torch.ops.mkldnn._reorder_linear_weight(seen))
    return known[2]


def use_packed_linears(model: Any) -> bool:
    """Let the linear layers of a model on a processor multiply so, in float32 or bfloat16. True where they do.

    Packed when first used: from then on these weights take their memory twice. A model of more than ``LARGEST``
    bytes is left as it is.
    """
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear]
    if sum(layer.weight.nbytes for layer in layers) > LARGEST:
        return False
    candidates = [layer for layer in layers if _packable(layer.weight)]
    usable = {dtype for dtype in {layer.weight.dtype for layer in candidates} if _available(dtype)}
    found = [layer for layer in candidates if layer.weight.dtype in usable]
    for layer in found:
        layer.__class__ = PackedLinear
    return bool(found)


def use_plain_linears(model: Any) -> None:
    """Undo ``use_packed_linears``, for weights that are to change in ways that torch does not count."""
    for layer in model.modules():
        if type(layer) is PackedLinear:
            layer.__class__ = nn.Linear  # type: ignore[assignment]
            _PACKED.pop(layer, None)


def _packable(weight: Tensor) -> bool:
    """Half precision only where the processor has it: elsewhere it is emulated."""
    wide = weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and native_bfloat16())
    return wide and weight.device.type == "cpu"


def _is_like(read: Tensor, weight: Tensor) -> bool:
    return read.dtype == weight.dtype and read.device == weight.device


def _available(dtype: torch.dtype = torch.float32) -> bool:
    """These operators are torch's own, and not promised: they are asked for, and tried."""
    layer = nn.Linear(8, 8, dtype=dtype)
    read = torch.linspace(-1, 1, 16).view(2, 8).to(dtype)
    try:
        with torch.inference_mode():
            weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight)
            found = torch.ops.mkldnn._linear_pointwise(read, weight, layer.bias, "none", [], "")
            return bool(torch.allclose(found, layer(read), atol=8 * torch.finfo(dtype).eps))
    except (AttributeError, RuntimeError):
        return False
