"""Names of models: paths, hub names, adapters; one line of error for anything else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixrag.errors import ModelError

_HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_PART = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<total>\d{5})\.gguf")


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


def model_source(name: str | Path) -> tuple[Path | str, Path | None]:
    """A model's folder, GGUF file or hub name; and the folder of a tokenizer that lies beside a GGUF file.

    A folder of a GGUF file, as ``rag.save`` writes it, stands for that file.

    Raises:
        ModelError: a file of another kind, a path where there is nothing, or a folder of several such files.
    """
    found = path_or_hub_name(name)
    if not isinstance(found, Path) or not found.is_dir() or (found / "config.json").exists():
        return found, None
    files = sorted(each for each in found.glob("*.gguf") if gguf_parts(each)[0] == each)
    if not files:
        return found, None
    if len(files) > 1:
        expected = f"a folder of one GGUF file at {str(name)!r}"
        raise ModelError(expected, f"{files[0].name} and {files[1].name}", "name the file")
    return files[0], found if (found / "tokenizer_config.json").exists() else None


def gguf_parts(file: Path) -> list[Path]:
    """The files of a GGUF model: itself, or all parts (``NAME-00001-of-00003.gguf``); the first one is named."""
    numbered = _PART.fullmatch(file.name)
    if numbered is None:
        return [file]
    name, total = numbered["name"], numbered["total"]
    parts = [file.with_name(f"{name}-{number:05}-of-{total}.gguf") for number in range(1, int(total) + 1)]
    return [each for each in parts if each.exists()] or [file]


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
