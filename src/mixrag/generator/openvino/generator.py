"""Causal language models through OpenVINO, as generators."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import SettingError
from mixrag.generator.assembly import reading_parts, refuse_text_encoder
from mixrag.generator.causal import CausalGenerator
from mixrag.generator.devices import AUTO, INT8
from mixrag.generator.light.reading import Reading, light_reading, remember_reading
from mixrag.generator.openvino.files import Wanted, digest_of, opened
from mixrag.generator.openvino.model import OpenVINOModel, OpenVINOStates
from mixrag.generator.openvino.runtime import has_bfloat16
from mixrag.generator.openvino.states import NotConvertibleError
from mixrag.generator.rounding import BY_DTYPE, OPENVINO_INT8
from mixrag.generator.tokenizer import loaded_tokenizer


@dataclass(frozen=True)
class OpenVINOGenerator(CausalGenerator):
    """A causal model that OpenVINO runs; ``model`` is an ``OpenVINOModel``.

    Everything else is that of ``CausalGenerator``: prompts, padding, cached passages.
    """

    model: OpenVINOModel
    engine = "openvino"
    copies_rows_slowly = True
    """Rows that are selected have to be read out of the engine."""

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.model.vocabulary_size

    @property
    def rounding(self) -> float:
        """See ``generator/rounding.py``."""
        return OPENVINO_INT8 if self.model.weights == INT8 else BY_DTYPE[self.model.dtype]

    @property
    def device(self) -> torch.device:
        """The processor."""
        return torch.device("cpu")

    def _no_states(self) -> OpenVINOStates:
        return OpenVINOStates(self.model)

    def _states_of(self, prefixes: Sequence[Tensor], more: int) -> tuple[OpenVINOStates, Tensor]:
        return self.model.states_of(prefixes)

    def _rows_of(self, cache: OpenVINOStates, lengths: Sequence[int]) -> list[Tensor]:
        states = cache.read().unflatten(0, (self.model.sizes.layers, 2))
        end = states.shape[-2]
        return [states[:, :, row, :, end - length :].clone() for row, length in enumerate(lengths)]

    def _fingerprint(self) -> Hashable:
        return self.model.digest


def openvino_generator(
    name: str,
    source: Path | str,
    load: Callable[[], Any],
    *,
    tokenizer: Any,
    template: PromptTemplate,
    dtype: str | torch.dtype,
    adapter: Path | None,
    hub: Mapping[str, Any],
) -> OpenVINOGenerator:
    """The generator of a model folder or hub name.

    Args:
        name: what messages call it, adapter included.
        source: folder, or name on the hub.
        load: the model of transformers in float32, its adapter merged; called only where it is to be converted.
        tokenizer: as ``loaded_tokenizer`` takes it.
        template: the prompt.
        dtype: as the setting; auto is int8.
        adapter: folder of a LoRA adapter.
        hub: options of the hub.

    Raises:
        NotConvertibleError: OpenVINO cannot run it.
        ModelError: the cache folder cannot be written.
        SettingError: float16.
    """
    weights, activations = formats(dtype)
    folder = _local(source, hub)
    read = _reading(name, folder, tokenizer, hub)
    parts = reading_parts(read.config, read.generation, read.tokenizer, template)
    digest = digest_of(folder, adapter)
    wanted = Wanted(name, read.config, weights, activations, digest, load, folder)
    return OpenVINOGenerator(name, opened(wanted), *parts)


def _reading(name: str, folder: Path, tokenizer: Any, hub: Mapping[str, Any]) -> Reading:
    """Tokenizer and configurations of a model's folder; where they are known, transformers is not imported.

    Raises:
        NotConvertibleError: OpenVINO cannot run this kind of model.
        ModelError: it is a text encoder.
    """
    if tokenizer is None and (known := light_reading(folder, partial(loaded_tokenizer, None, str(folder), {}))):
        return known
    from transformers import GenerationConfig

    config = _checked_config(name, str(folder), {})
    try:
        generation = GenerationConfig.from_pretrained(folder)
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    found = Reading(loaded_tokenizer(tokenizer, str(folder), hub), config, generation)
    if tokenizer is not None:
        return found
    remember_reading(folder, found)
    return light_reading(folder, lambda: found.tokenizer) or found


def _checked_config(name: str, source: str, hub: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    from mixrag.generator.openvino.conversion import unconvertible

    config = AutoConfig.from_pretrained(source, trust_remote_code=False, **hub)
    refuse_text_encoder(name, config)
    if (reason := unconvertible(config)) is not None:
        raise NotConvertibleError(reason)
    return config


def formats(dtype: str | torch.dtype) -> tuple[str, str]:
    """Formats of weights and of activations for a setting ``dtype``.

    Raises:
        SettingError: float16, or an unknown one.
    """
    half = "bfloat16" if has_bfloat16() else "float32"
    known = {
        AUTO: (INT8, half),
        INT8: (INT8, half),
        "float32": ("float32", "float32"),
        "bfloat16": ("bfloat16",) * 2,
    }
    name = str(dtype).removeprefix("torch.")
    if name not in known:
        raise SettingError(f"dtype among {', '.join(known)} for OpenVINO", name, "choose one of them")
    return known[name]


def _local(source: Path | str, hub: Mapping[str, Any]) -> Path:
    """The folder of a model; of one on the hub that of its copy here, fetched if need be.

    Raises:
        NotConvertibleError: OpenVINO cannot run this kind of model; its weights are not fetched.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    _checked_config(str(source), str(source), hub)
    files, others = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"], ["*/*", "consolidated*"]
    return Path(snapshot_download(str(source), allow_patterns=files, ignore_patterns=others, **hub))
