"""What runs a causal model: torch; on a processor OpenVINO or, a GGUF file as it is, llama.cpp; or vLLM.

OpenVINO, llama.cpp and vLLM themselves are imported only where they are to run a model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from mixrag.config.default_models import GENERATOR, default_generator
from mixrag.config.engine_choice import AUTO, ENGINES, LLAMACPP, OPENVINO, TORCH, VLLM
from mixrag.config.prompt_template import Argument, PromptTemplate
from mixrag.errors import MixragError, ModelError, SettingError
from mixrag.generator.gguf import converted_gguf
from mixrag.generator.mixed import language_model_of
from mixrag.generator.names import model_source, unusable
from mixrag.generator.protocol import Generator
from mixrag.generator.tokenizer import loaded_tokenizer

if TYPE_CHECKING:
    from mixrag.generator.llamacpp.generator import GGUFGenerator
    from mixrag.generator.openvino.generator import OpenVINOGenerator

logger = logging.getLogger("mixrag.generator")
Built = TypeVar("Built")
ON_PROCESSORS = (OPENVINO, LLAMACPP)
RUNS = {
    OPENVINO: "a causal model by name on a processor",
    LLAMACPP: "a GGUF file on a processor, without an adapter",
    VLLM: "a causal model by name",
}
"""What an engine is for, where it is not for everything."""


def check_engine(
    engine: str, arguments: Mapping[str, Argument] | None, cuda_graphs: bool, other: str | None
) -> None:
    """Refuse an unknown engine, arguments of another one, and CUDA graphs elsewhere than with torch.

    Args:
        engine: as for ``load_generator``.
        arguments: its ``engine_args``.
        cuda_graphs: the setting.
        other: what runs the model, where no engine does.

    Raises:
        SettingError: one of these.
    """
    if engine not in ENGINES:
        raise SettingError(f"engine among {', '.join(ENGINES)}", repr(engine), "choose one of them")
    if arguments and engine != VLLM:
        raise SettingError("engine_args with engine vllm", f"engine {engine}", "leave them out")
    if cuda_graphs and (engine != TORCH or other is not None):
        found = other or f"engine {engine}"
        raise SettingError("cuda_graphs with engine torch", found, "leave one of them out")


def is_openvino(generator: Generator) -> bool:
    """Whether OpenVINO runs the model of a generator."""
    return getattr(generator, "engine", None) == OPENVINO


def engine_of_generator(generator: Generator) -> str:
    """What runs its language model, and the format of the weights: "openvino, weights int8"; empty: not known."""
    model = language_model_of(generator)
    engine, own = getattr(model, "engine", None), getattr(model, "model", None)
    if engine is None:
        return ""
    formats = getattr(own, "weights", None) or getattr(own, "dtype", None)
    shown = str(formats).removeprefix("torch.")
    return f"{engine}, weights {shown}" if isinstance(formats, str | torch.dtype) else str(engine)


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

    def build() -> GGUFGenerator:
        runtime.llama()
        from mixrag.generator.llamacpp.generator import gguf_generator

        return gguf_generator(name, file, **parts)

    if engine == AUTO and not runtime.available():
        return None
    return _built(build, name, "cyllama", engine, "llama.cpp does not run %s: %s")


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

    def checked() -> OpenVINOGenerator:
        runtime.openvino()
        from mixrag.generator.openvino.states import NotConvertibleError

        try:
            return build()
        except NotConvertibleError as error:
            expected = "a model that OpenVINO can run, for engine openvino"
            raise ModelError(expected, f"{name}: {error}", "give engine torch") from error

    if engine == AUTO and not runtime.available():
        return None
    return _built(checked, name, "openvino", engine, "torch runs %s, not OpenVINO: %s")


def _built(build: Callable[[], Built], name: str, package: str, engine: str, refused: str) -> Built | None:
    """What ``build`` makes; None, and a line (``refused``) in the log, where it fails and ``auto`` was given."""
    try:
        return build()
    except ImportError as error:  # libraries of the system that its own libraries need
        reason: MixragError = ModelError(
            f"a package {package} that can be imported", str(error)[:200], "give engine torch"
        )
        if engine != AUTO:
            raise reason from error
    except MixragError as error:
        if engine != AUTO:
            raise
        reason = error
    logger.warning(refused, name, reason.found)
    return None


def inside_vllm(
    model: Any,
    *,
    tokenizer: Any,
    template: PromptTemplate,
    dtype: str | torch.dtype | None,
    adapter: Path | None,
    hub: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> Generator:
    """The generator of a model that vLLM runs.

    Args:
        model: path or hub name; None is the packaged model.
        tokenizer: as for ``load_generator``.
        template: the prompt.
        dtype: as for ``load_generator``.
        adapter: folder of a LoRA adapter.
        hub: options of the hub.
        arguments: of ``vllm.EngineArgs``.

    Raises:
        SettingError: an adapter, a dtype or arguments that cannot be used with vLLM.
        MissingPackageError: vLLM is not installed.
        ModelError: no such model, or vLLM cannot run it.
    """
    if adapter is not None:
        remedy = "merge it (merge_and_unload of peft) and name the folder, or give adapter none (--adapter none)"
        raise SettingError("a model without an adapter, for engine vllm", f"the adapter {adapter}", remedy)
    from mixrag.generator.vllm.generator import vllm_generator

    name = GENERATOR if model is None else str(model)
    source, beside = (default_generator(), None) if model is None else model_source(model)
    tokenizer = beside if tokenizer is None else tokenizer
    if isinstance(source, Path) and source.is_file():
        source = converted_gguf(source)
    try:
        found = loaded_tokenizer(tokenizer, str(source), hub)
        options: dict[str, Any] = {"template": template, "dtype": dtype or "float32", "hub": hub}
        options |= {"arguments": arguments}
        return vllm_generator(name, str(source), tokenizer=found, **options)
    except MixragError:
        raise
    except Exception as error:
        raise unusable(name, "a causal language model", error) from error
