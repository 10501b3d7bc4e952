"""The package cyllama, llama.cpp's own interface in Python; imported where a GGUF file is to be run."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Callable
from functools import cache
from importlib import metadata
from threading import RLock
from typing import Any, TypeVar

from mixrag.errors import MissingPackageError
from mixrag.utils.extras import require

T = TypeVar("T")
EXTRA = "gguf"
_PACKAGE, _MODULE = "cyllama", "cyllama.llama.llama_cpp"
_ERROR = 4
"""Level of llama.cpp's messages."""
_LOGGING = RLock()


def available() -> bool:
    """Whether the package is installed; it is not imported."""
    return _PACKAGE in sys.modules or importlib.util.find_spec(_PACKAGE) is not None


@cache
def llama() -> Any:
    """The module with llama.cpp's classes; what llama.cpp itself writes to standard error is turned off.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        found = require(_MODULE, EXTRA, "--engine llamacpp")
    except MissingPackageError as error:
        here = (platform.system(), platform.machine())
        if here[0] != "Linux" or here[1] == "x86_64":
            raise
        expected = "the package cyllama for --engine llamacpp, which has wheels for x86-64 on Linux"
        remedy = "compile it (pip install cyllama, with a compiler of C++), or give --engine torch"
        raise MissingPackageError(expected, f"none for {' on '.join(here)}", remedy) from error
    found.disable_logging()
    return found


def version() -> str:
    """Version of the package."""
    return metadata.version(_PACKAGE)


def reason_of(failing: Callable[[], object]) -> str:
    """What llama.cpp writes of its errors while a call fails; empty where it writes nothing.

    One receiver of its messages serves the whole process, and must not outlive it, so there is one only here.
    """
    lines: list[str] = []
    with _LOGGING:
        llama().set_log_callback(lambda level, text: lines.append(text) if level == _ERROR else None)
        try:
            failing()
        except Exception:
            return _shortest(lines)
        finally:
            llama().disable_logging()
    return ""


def _shortest(lines: list[str]) -> str:
    """The reason in messages such as ``load: error loading model: reason``, else the first message."""
    if not lines:
        return ""
    first = next((each for each in lines if "error loading model" in each), lines[0])
    return " ".join(first.rpartition("error loading model: ")[2].split())[:200]
