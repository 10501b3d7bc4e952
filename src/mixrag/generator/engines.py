"""What runs a causal model on a processor: torch, or OpenVINO where it is installed and can run the model.

OpenVINO and the modules that use it are imported only where it is to run a model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mixrag.errors import MixragError, ModelError
from mixrag.generator.protocol import Generator

if TYPE_CHECKING:
    from mixrag.generator.openvino.generator import OpenVINOGenerator

logger = logging.getLogger("mixrag.generator")
AUTO: Final = "auto"
TORCH: Final = "torch"
OPENVINO: Final = "openvino"
ENGINES = (AUTO, TORCH, OPENVINO)


def is_openvino(generator: Generator) -> bool:
    """Whether OpenVINO runs the model of a generator."""
    return getattr(generator, "engine", None) == OPENVINO


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
