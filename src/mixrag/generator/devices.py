"""The device and the dtype of a language model.

CUDA GPUs, Apple's GPUs (MPS) and CPUs. On MPS there is no float64, so log-probabilities are moved to the CPU.
int8, grouped attention and oneDNN's linear layers are for CPUs only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mixrag.errors import SettingError
from mixrag.utils.cpu_features import native_bfloat16

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO, INT8 = "auto", "int8"
STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
"""What accelerate spreads a model by; other strings are the name of one device."""
DeviceMap = str | int | torch.device | Mapping[str, str | int | torch.device]
"""As ``from_pretrained`` takes it."""


def default_device() -> str:
    """The first of cuda, mps and cpu that torch can use."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def placement(device: str | torch.device | None, device_map: DeviceMap | None) -> tuple[str, DeviceMap | None]:
    """The (main) device, and the device map if it names more than one device.

    Args:
        device: used without a device map; None is ``default_device``.
        device_map: see ``DeviceMap``.

    Raises:
        SettingError: torch knows no such device, or cannot use it here.
    """
    if device_map is None:
        return _usable(default_device() if device is None else str(device)), None
    if isinstance(device_map, str) and device_map in STRATEGIES:
        return default_device(), device_map
    named = [*device_map.values()] if isinstance(device_map, Mapping) else [device_map]
    names = (f"{default_device()}:{each}" if isinstance(each, int) else str(each) for each in named)
    devices = list(dict.fromkeys(names))
    if len(devices) == 1 and devices[0] != "disk":
        return _usable(devices[0]), None
    main = next((each for each in devices if each not in ("cpu", "disk")), "cpu")
    return _usable(main), device_map


def _usable(device: str) -> str:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise SettingError("a device: cpu, cuda, cuda:1 or mps", repr(device), "choose one of them") from error
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, True):
        raise SettingError(f"a device that torch can use here, such as {default_device()}", device, "choose that")
    return device


def one_dtype(dtype: str | torch.dtype | None, torch_dtype: str | torch.dtype | None) -> str | torch.dtype | None:
    """The one that is given; ``torch_dtype`` is the older name of ``dtype`` in transformers.

    Raises:
        SettingError: both are given, and differ.
    """
    if dtype is not None and torch_dtype is not None and str(dtype) != str(torch_dtype):
        raise SettingError("dtype or torch_dtype", f"both, {dtype} and {torch_dtype}", "give one of them")
    return torch_dtype if dtype is None else dtype


def resolve_dtype(dtype: str | torch.dtype, device: str | None) -> str:
    """The name of the dtype; "auto" is bfloat16 where the CPU or CUDA GPU multiplies it, else float32.

    Args:
        dtype: a name, or a ``torch.dtype``.
        device: None is ``default_device``.

    Raises:
        SettingError: an unknown one.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in (AUTO, *DTYPES, INT8):
        expected = f"dtype among {', '.join((AUTO, *DTYPES, INT8))}"
        raise SettingError(expected, repr(dtype), "choose one of them")
    if name != AUTO:
        return name
    kind = torch.device(device or default_device()).type
    if kind == "cpu":
        return "bfloat16" if native_bfloat16() else "float32"
    gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if gpu else "float32"


def memory_dtype(model: Any) -> str:
    """The name of a model object's dtype."""
    return str(model.dtype).removeprefix("torch.")
