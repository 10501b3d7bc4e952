"""The package openvino, imported without what it would report to its makers."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from typing import Any

from mixrag.utils.extras import require

_REPORTING = "openvino.tools.ovc"
"""OpenVINO's converter, which the package imports. It sends the fact of the import to a statistics service where
``openvino-telemetry`` is installed, as it always is beside a wheel. mixrag converts without it."""


def available() -> bool:
    """Whether the package is installed; it is not imported."""
    return "openvino" in sys.modules or importlib.util.find_spec("openvino") is not None


@cache
def openvino() -> Any:
    """The package.

    Raises:
        MissingPackageError: it is not installed.
    """
    absent = object()
    former = sys.modules.get(_REPORTING, absent)
    if former is absent:
        sys.modules[_REPORTING] = None  # type: ignore[assignment]  # an import of it fails, and openvino goes on
    try:
        return require("openvino", "openvino", "--engine openvino")
    finally:
        if former is absent:
            del sys.modules[_REPORTING]


def version() -> str:
    """Version of the package, with its build."""
    return str(openvino().__version__)


@cache
def core() -> Any:
    """OpenVINO's one object that reads and compiles models."""
    return openvino().Core()


def has_bfloat16() -> bool:
    """Whether OpenVINO multiplies bfloat16 on this processor."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
