"""What runs the language model where ``engine`` is auto: known before any model is loaded.

A calibrated confidence belongs to one way of rounding, so what auto means has to be decided with the models.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, Final

from mixrag.config.default_models import EXTRACTIVE, names_parts
from mixrag.config.server_address import is_remote
from mixrag.errors import SettingError

AUTO: Final = "auto"
TORCH: Final = "torch"
OPENVINO: Final = "openvino"
LLAMACPP: Final = "llamacpp"
VLLM: Final = "vllm"
ENGINES = (AUTO, TORCH, OPENVINO, LLAMACPP, VLLM)
VARIABLE = "MIXRAG_ENGINE"
"""Environment variable with the engine that takes the place of auto."""
MACHINES = ("x86_64", "amd64", "aarch64", "arm64")
"""Processors that OpenVINO has wheels for."""
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_found: dict[tuple[str, str], str] = {}
"""Engines of models, by generator and adapter, that turned out to be others than were chosen."""


def engine_of(models: Any) -> str:
    """The engine that is named, or that auto chooses for a ``ModelConfig``; torch for what no engine runs.

    No engine runs a model behind a server, the extractive reader or an object. auto is llama.cpp for a GGUF file
    that is named, else OpenVINO: where they are installed, on a processor, under ``dtype`` auto, for a causal
    model. Else it is torch. MIXRAG_ENGINE may name another one in the place of auto.

    Raises:
        SettingError: MIXRAG_ENGINE is no engine.
    """
    if _runs_itself(models.generator):
        return TORCH
    if models.engine != AUTO:
        return str(models.engine)
    if (known := _found.get(_key(models))) is not None:
        return known
    if (named := named_engine(models)) != AUTO:
        return named
    return _chosen(models) if models.dtype == AUTO and _on_processor(models) else TORCH


def named_engine(models: Any) -> str:
    """The engine that a ``ModelConfig`` names, or MIXRAG_ENGINE in the place of auto; auto where none is named.

    Raises:
        SettingError: MIXRAG_ENGINE is no engine.
    """
    if models.engine != AUTO:
        return str(models.engine)
    if _runs_itself(models.generator):
        return AUTO
    named = os.environ.get(VARIABLE) or AUTO
    if named not in ENGINES:
        raise SettingError(
            f"an engine in {VARIABLE}: {', '.join(ENGINES)}", repr(named)[:60], "choose one of them"
        )
    return named


def engine_in_words(models: Any) -> str:
    """What runs the model of a ``ModelConfig``, and in what format it has the weights where that is known."""
    given = models.generator
    if is_remote(given):
        return "a server"
    if not (given is None or isinstance(given, (str, Path))):
        own = getattr(given, "engine", TORCH if hasattr(given, "parameters") else type(given).__name__)
        return str(own)
    engine = engine_of(models)
    own = {OPENVINO: "int8", LLAMACPP: "as in the file"}.get(engine, AUTO)
    formats = own if models.dtype == AUTO else models.dtype
    return engine if formats == AUTO else f"{engine}, weights {formats}"


def runs_with(models: Any, engine: str) -> None:
    """Remember in this process that a model of ``engine`` auto was loaded with this engine."""
    _found[_key(models)] = engine


def installed(package: str) -> bool:
    """Whether a package is there; it is not imported."""
    if package in sys.modules:
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None


def _key(models: Any) -> tuple[str, str]:
    return str(models.generator), str(models.adapter)


def _runs_itself(given: Any) -> bool:
    """Whether no engine runs what is given: a server, the extractive reader, an object."""
    return not (given is None or isinstance(given, (str, Path))) or is_remote(given) or given == EXTRACTIVE


def _chosen(models: Any) -> str:
    path = (
        None if models.generator is None or names_parts(models.generator) else Path(models.generator).expanduser()
    )
    is_file = path is not None and (path.is_file() or _is_folder_of_gguf(path))
    if is_file and models.adapter in (None, "none") and installed("cyllama"):
        return LLAMACPP
    if platform.machine().lower() not in MACHINES or not installed("openvino"):
        return TORCH
    return OPENVINO if is_file or path is None or _may_be_causal(path) else TORCH


def _is_folder_of_gguf(folder: Path) -> bool:
    """Whether a folder stands for its GGUF file, as ``rag.save`` writes it (``model_source``)."""
    try:
        return folder.is_dir() and not (folder / "config.json").exists() and any(folder.glob("*.gguf"))
    except OSError:
        return False


def _may_be_causal(folder: Path) -> bool:
    """False where the folder of a model says that it is of another kind; a name of the hub says nothing."""
    try:
        if not folder.is_dir():
            return True
        said = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
        return not said or any(str(each).endswith(_CAUSAL) for each in said)
    except (OSError, ValueError, AttributeError, RecursionError):
        return True


def _on_processor(models: Any) -> bool:
    if models.device_map is not None:
        return False
    if models.device is not None:
        return str(models.device) == "cpu"
    import torch

    return not (torch.cuda.is_available() or torch.backends.mps.is_available())
