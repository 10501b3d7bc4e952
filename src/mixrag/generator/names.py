"""Names of models: paths, hub names, adapters; one line of error for anything else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixrag.errors import ModelError

_HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def unusable(name: str, wanted: str, error: Exception) -> ModelError:
    """One line for any error that a model library raises."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(f"{wanted} at {name!r}", reason, "give a model folder, a GGUF file or a hub name")


def path_or_hub_name(name: str | Path, wanted: str = "a model folder, a .gguf file or a hub name") -> Path | str:
    """The absolute path of what is there, else a name for the hub.

    Raises:
        ModelError: a file of another kind, or a path where there is nothing.
    """
    path = expanded(name, "a model")
    if path.exists():
        if path.is_file() and path.suffix != ".gguf":
            raise ModelError(wanted, f"the file {path}", "check the path")
        return path.resolve()
    looks_like_path = isinstance(name, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path or path.suffix == ".gguf":
        raise ModelError(wanted, f"no such path: {name}", "check the path")
    return str(name)


def expanded(name: str | Path, wanted: str) -> Path:
    """The path with its ``~`` expanded; what cannot be a path is a ModelError."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        raise unusable(str(name)[:100], wanted, error) from error
    return path


def downloaded_adapter(folder: Path, hub: Mapping[str, Any]) -> Path:
    """The folder itself, or for the hub name of an adapter, ``owner/name`` or ``owner/name@revision``, its copy.

    Raises:
        ModelError: the hub cannot be reached, or has no such adapter.
    """
    named = _HUB_NAME.fullmatch(str(folder))
    if folder.exists() or named is None:
        return folder
    from huggingface_hub import snapshot_download

    files = ["adapter_config.json", "adapter_model.safetensors"]
    try:
        return Path(
            snapshot_download(
                named["name"], revision=named["revision"], token=hub.get("token"), allow_patterns=files
            )
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "name a folder that save_pretrained wrote, or owner/name@revision on the hub"
        raise ModelError(f"a LoRA adapter at {str(folder)!r}", reason, remedy) from error
