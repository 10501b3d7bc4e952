"""What the processor multiplies by itself, as torch reports it; elsewhere torch emulates it, slowly."""

from __future__ import annotations

from functools import cache
from typing import Any

_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
_BYTES = ("avx512_vnni", "avx_vnni", "amx_int8")


def native_bfloat16() -> bool:
    """True where it multiplies bfloat16."""
    return any(_has(name) for name in _BFLOAT16)


def native_int8() -> bool:
    """True where it multiplies bytes and adds the products without overflow."""
    return any(_has(name) for name in _BYTES)


@cache
def _has(name: str) -> bool:
    import torch

    # Not in every release of torch; where it is missing, nothing is claimed.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get(name, False))
