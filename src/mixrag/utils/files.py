"""Files that appear complete or not at all, JSON that any reader takes, and what a model's files are known by."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all.

    Raises:
        OSError: it cannot be written; one that was there before is unchanged.
    """
    scratch = path.with_name(f".{path.name}-writing")
    try:
        with scratch.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def strict_json(document: Any, indent: int | None = None) -> str:
    """The document as JSON, which has no infinity: log 0 becomes null."""
    return json.dumps(_finite(document), ensure_ascii=False, allow_nan=False, indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


MODEL_FILES = ("*.safetensors", "*.gguf", "*.json", "*.model", "*.txt")
"""Weights, configuration and vocabulary, by name."""
NOT_MODEL_FILES = frozenset({"mixrag.json", "confidence.json", "run.json"})
"""What mixrag itself writes beside them."""
_ENDS = 2**20


def model_digest(name: str | Path | None) -> str:
    """What a model is known by: its name; one on this machine by its files, wherever they lie.

    Of each file, its name, size, first and last MiB: weights of many gigabytes are not read whole.
    """
    path = None if name is None else Path(name).expanduser()
    if path is None or not path.exists():
        return str(name)
    found = hashlib.sha256()
    found_files = {each for kind in MODEL_FILES for each in path.rglob(kind) if each.name not in NOT_MODEL_FILES}
    files = sorted(found_files) if path.is_dir() else [path]
    for each in files:
        own = each.relative_to(path) if path.is_dir() else each.suffix
        found.update(f"{own} {each.stat().st_size}\n".encode())
        with each.open("rb") as stream:
            found.update(stream.read(_ENDS))
            stream.seek(max(0, each.stat().st_size - _ENDS))
            found.update(stream.read(_ENDS))
    return found.hexdigest()[:16]
