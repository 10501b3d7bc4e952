"""Packages that come with an extra: where one is missing, the error names the command that installs it."""

from __future__ import annotations

import importlib
from typing import Any

from mixrag.errors import MissingPackageError


def require(module: str, extra: str, purpose: str) -> Any:
    """The imported module.

    Args:
        module: its full name.
        extra: the extra of mixrag that installs it.
        purpose: what it is needed for, as the message says it.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        package = module.split(".")[0]
        raise MissingPackageError(
            f"the package {package} for {purpose}", "it is not installed", f'run: pip install "mixrag[{extra}]"'
        ) from error
