"""What runs a causal model on a processor: torch, OpenVINO or, a GGUF file as it is, llama.cpp.

OpenVINO and llama.cpp, and the modules that use them, are imported only where they are to run a model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mixrag.errors import MixragError, ModelError, SettingError
from mixrag.generator.protocol import Generator

if TYPE_CHECKING:
    from mixrag.generator.llamacpp.generator import GGUFGenerator
    from mixrag.generator.openvino.generator import OpenVINOGenerator

logger = logging.getLogger("mixrag.generator")
AUTO: Final = "auto"
TORCH: Final = "torch"
OPENVINO: Final = "openvino"
LLAMACPP: Final = "llamacpp"
ENGINES = (AUTO, TORCH, OPENVINO, LLAMACPP)
RUNS = {
    OPENVINO: "a causal model by name on a processor",
    LLAMACPP: "a GGUF file on a processor, without an adapter",
}
"""What an engine is for, where it is not for everything."""


def is_openvino(generator: Generator) -> bool:
    """Whether OpenVINO runs the model of a generator."""
    return getattr(generator, "engine", None) == OPENVINO


def runs_torch(generator: Generator) -> bool:
    """Whether it is torch that runs the model of a generator, so that it can be trained."""
    return getattr(generator, "engine", TORCH) == TORCH


def refuse_engine(engine: str, found: str, remedy: str = "give engine torch") -> None:
    """Refuse what an engine does not run, where it was asked for by its name.

    Raises:
        SettingError: it was.
    """
    if engine in RUNS:
        raise SettingError(f"{RUNS[engine]}, for engine {engine}", found, remedy)


def with_llamacpp(name: str, file: Path, engine: str, **parts: Any) -> GGUFGenerator | None:
    """The generator of a GGUF file, run by llama.cpp; None where another engine shall run it, as ``auto`` allows.

    Args:
        name: what messages call it.
        file: the file.
        engine: llamacpp or auto.
        **parts: as ``gguf_generator`` takes them.

    Raises:
        ModelError: llamacpp was asked for, and cannot run the model.
        SettingError: it was, and with a dtype that it does not have.
        MissingPackageError: it was, and is not installed.
    """
    from mixrag.generator.llamacpp import runtime

    if engine == AUTO and not runtime.available():
        return None
    try:
        runtime.llama()
        from mixrag.generator.llamacpp.generator import gguf_generator

        return gguf_generator(name, file, **parts)
    except ImportError as error:  # libraries of the system that its own libraries need
        found = ModelError("a package cyllama that can be imported", str(error)[:200], "give engine torch")
        if engine == LLAMACPP:
            raise found from error
        reason: MixragError = found
    except MixragError as error:
        if engine == LLAMACPP:
            raise
        reason = error
    logger.info("llama.cpp does not run %s: %s", name, reason.found)
    return None


def with_openvino(name: str, build: Callable[[], OpenVINOGenerator], engine: str) -> OpenVINOGenerator | None:
    """The generator that ``build`` makes, run by OpenVINO; None where torch shall run it, as ``auto`` allows.

    Args:
        name: what messages call it.
        build: makes it, once OpenVINO is known to be there.
        engine: openvino or auto.

    Raises:
        ModelError: openvino was asked for, and cannot run the model.
        MissingPackageError: openvino was asked for, and is not installed.
    """
    from mixrag.generator.openvino import runtime

    if engine == AUTO and not runtime.available():
        return None
    try:
        runtime.openvino()
        from mixrag.generator.openvino.conversion import NotConvertibleError

        try:
            return build()
        except NotConvertibleError as error:
            expected = "a model that OpenVINO can run, for engine openvino"
            raise ModelError(expected, f"{name}: {error}", "give engine torch") from error
    except ImportError as error:  # libraries of the system that its own libraries need
        found = ModelError("a package openvino that can be imported", str(error)[:200], "give engine torch")
        if engine == OPENVINO:
            raise found from error
        reason: MixragError = found
    except MixragError as error:
        if engine == OPENVINO:
            raise
        reason = error
    logger.info("torch runs %s, not OpenVINO: %s", name, reason.found)
    return None
