"""Packages that come with an extra: where one is missing, the error names the command that installs it."""

from __future__ import annotations

import importlib
from typing import Any

from mixrag.errors import MissingPackageError

EXTRAS = {
    "files": ("kreuzberg", "pypdfium2", "lxml", "selectolax", "webencodings", "chardet", "xlrd"),
    "ocr": ("pytesseract",),
    "train": ("tensorboardX", "matplotlib", "sklearn"),
    "eval": ("sklearn", "scipy", "matplotlib"),
    "server": ("fastapi", "uvicorn", "sse_starlette", "python_multipart", "prometheus_client", "mcp"),
    "telemetry": ("opentelemetry.sdk",),
    "langchain": ("langchain_core",),
    "llama-index": ("llama_index.core",),
    "haystack": ("haystack",),
    "openvino": ("openvino",),
    "vllm": ("vllm",),
    "gguf": ("cyllama",),
    "ray": ("ray",),
    "lance": ("lancedb", "pyarrow", "botocore"),
    "postgres": ("psycopg", "pgvector"),
}
"""The modules that each extra of pyproject.toml is for."""


def require(module: str, extra: str, purpose: str) -> Any:
    """The imported module.

    Args:
        module: its full name.
        extra: the extra of mixrag that installs it.
        purpose: what it is needed for, as shown in the message.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # One package of an extra may import another one.
        own = {each.split(".")[0] for each in (module, *EXTRAS.get(extra, ()))}
        missing = (error.name or "").split(".")[0]
        if missing not in own:
            raise
        raise missing_package(missing, extra, purpose) from error


def require_extra(extra: str, purpose: str) -> None:
    """Import all modules of an extra, so that hours of work do not end at a package that is missing.

    Raises:
        MissingPackageError: one of them is not installed.
    """
    for module in EXTRAS[extra]:
        require(module, extra, purpose)


def missing_package(package: str, extra: str, purpose: str) -> MissingPackageError:
    """The error for a package that is not installed, with the command that installs its extra."""
    remedy = f'run: pip install "mixrag[{extra}]"'
    return MissingPackageError(f"the package {package} for {purpose}", "it is not installed", remedy)
