"""The package openvino, imported without what it would report to its makers."""

from __future__ import annotations

import importlib.util
import platform
import sys
from functools import cache
from typing import Any

from mixrag.errors import MissingPackageError
from mixrag.utils.extras import require

_REPORTING = "openvino.tools.ovc"
"""OpenVINO's converter, which the package imports. It sends the fact of the import to a statistics service where
``openvino-telemetry`` is installed, as it always is beside a wheel. mixrag converts without it."""
WHEELS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"), ("Windows", "AMD64")}
"""Systems and processors that openvino 2026.4 has wheels for."""
_LISTED = "Linux on x86-64 and Arm (glibc 2.35 or later), macOS on Arm, Windows on x86-64"
REMEDY = "give --engine torch"


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
    except MissingPackageError as error:
        here = (platform.system(), platform.machine())
        if here in WHEELS:
            raise
        found = f"none for {' on '.join(here)}"
        raise MissingPackageError(
            f"the package openvino, which has wheels for {_LISTED}", found, REMEDY
        ) from error
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
