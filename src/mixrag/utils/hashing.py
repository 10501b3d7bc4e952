"""Digests of files, by which models and checkpoints are recognised wherever they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

MODEL_FILES = ("*.safetensors", "*.gguf", "*.json", "*.model", "*.txt")
"""Weights, configuration and vocabulary, by name."""
NOT_MODEL_FILES = frozenset({"mixrag.json", "confidence.json", "confidence-int8.json", "run.json"})
"""What mixrag itself writes next to them."""
_ENDS = 2**20


def file_digest(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def model_digest(name: str | Path | None) -> str:
    """What a model is known by: its name; one on this machine by its files, wherever they are.

    Of each file, its name, size, first and last MiB: weights of many gigabytes are not read whole.
    """
    path = None if name is None else Path(name).expanduser()
    if path is None or not path.exists():
        return str(name)
    digest = hashlib.sha256()
    model_files = {each for kind in MODEL_FILES for each in path.rglob(kind) if each.name not in NOT_MODEL_FILES}
    for each in sorted(model_files) if path.is_dir() else [path]:
        own = each.relative_to(path) if path.is_dir() else each.suffix
        digest.update(f"{own} {each.stat().st_size}\n".encode())
        with each.open("rb") as stream:
            digest.update(stream.read(_ENDS))
            stream.seek(max(0, each.stat().st_size - _ENDS))
            digest.update(stream.read(_ENDS))
    return digest.hexdigest()[:16]
