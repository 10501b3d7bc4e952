"""From a path, a hub name, a GGUF file, a model object or an object of the protocol to a Generator."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mixrag.config.bundle import NO_ADAPTER, read_bundle
from mixrag.config.default_models import (
    EXTRACTIVE,
    GENERATOR,
    HUB_GENERATOR,
    default_generator,
    packaged_generator,
    packaged_reader,
    unavailable,
)
from mixrag.config.engine_choice import LLAMACPP, TORCH, VLLM, engine_of, named_engine, runs_with
from mixrag.config.model_config import PREFIX_CACHE_MIB, ModelConfig
from mixrag.config.prompt_template import Argument, PromptTemplate
from mixrag.config.server_address import is_remote
from mixrag.errors import MixragError, ModelError, SettingError
from mixrag.generator.adapter import cast, check_adapter, merged
from mixrag.generator.assembly import assembled, refuse_text_encoder
from mixrag.generator.causal import CausalGenerator
from mixrag.generator.devices import AUTO, DTYPES, INT8, DeviceMap, one_dtype, placement, resolve_dtype
from mixrag.generator.engines import (
    ON_PROCESSORS,
    check_engine,
    inside_vllm,
    is_openvino,
    refuse_engine,
    with_llamacpp,
    with_openvino,
)
from mixrag.generator.gguf import converted_gguf
from mixrag.generator.kernels.onednn_linear import use_onednn_linears
from mixrag.generator.mixed import language_model_of
from mixrag.generator.model_object import generator_of
from mixrag.generator.names import downloaded_adapter, expanded, model_source, path_or_hub_name, unusable
from mixrag.generator.protocol import Generator
from mixrag.generator.self_check import with_cuda_graphs, with_prefix_cache, with_shared_cross_attention
from mixrag.generator.seq2seq import Seq2SeqGenerator
from mixrag.generator.span_loading import extractive_source, load_extractive, with_span_reader
from mixrag.generator.tokenizer import loaded_tokenizer
from mixrag.utils.plugins import check_plugin
from mixrag.utils.quiet import quiet_libraries

if TYPE_CHECKING:
    from mixrag.generator.llamacpp.generator import GGUFGenerator
    from mixrag.generator.openvino.generator import OpenVINOGenerator

logger = logging.getLogger("mixrag.generator")


def load_configured(models: ModelConfig, language_model_weight: float = 0.5) -> Generator:
    """``load_generator`` with the fields of a configuration that are about the language model.

    Raises:
        ModelError, MissingPackageError, SettingError, ServerError: as ``load_generator``.
    """
    named, engine = named_engine(models), engine_of(models)
    chosen = named == AUTO and engine in ON_PROCESSORS
    found = load_generator(
        models.generator,
        tokenizer=models.tokenizer,
        template=models.prompt,
        template_args=models.template_args,
        dtype=models.dtype,
        device=models.device,
        device_map=models.device_map,
        revision=models.revision,
        token=models.token,
        adapter=models.adapter,
        prefix_cache=models.prefix_cache,
        span_reader=models.span_reader,
        language_model_weight=language_model_weight,
        api_key_env=models.api_key_env,
        server_timeout=models.server_timeout,
        engine=engine if named == AUTO and not chosen else named,
        engine_args=models.engine_args,
        cuda_graphs=models.cuda_graphs,
    )
    actual = str(getattr(language_model_of(found), "engine", TORCH))
    if chosen and actual != engine:
        runs_with(models, actual)
    return found


def load_generator(
    model: str | Path | torch.nn.Module | Generator | None = None,
    *,
    tokenizer: Any = None,
    template: PromptTemplate | None = None,
    template_args: Mapping[str, Argument] | None = None,
    dtype: str | torch.dtype | None = None,
    torch_dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    device_map: DeviceMap | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    adapter: str | Path | None = None,
    prefix_cache: int = PREFIX_CACHE_MIB,
    span_reader: str | Path | None = None,
    language_model_weight: float = 0.5,
    api_key_env: str | None = None,
    server_timeout: float = 120.0,
    engine: str = "torch",
    engine_args: Mapping[str, Argument] | None = None,
    cuda_graphs: bool = False,
) -> Generator:
    """A causal or seq2seq language model, an extractive model, or a mixture of both, as a generator.

    A model loaded by name also gets the faster kernels of ``mixrag.generator.kernels``. A model **object** is
    never changed: it stays on its device, in its dtype, with its own attention and layers, and an adapter is
    merged into a copy. It must be in evaluation mode, and stay so. A **Generator** object is returned as it is;
    the other arguments do not apply to it.

    Args:
        model: folder with a Hugging Face model or one GGUF file, such a file, or a hub name; a causal or seq2seq
            model object of transformers, or peft's model around one; or an object with the members of
            ``Generator``. A folder or name of a model for extractive question answering, and "extractive" (the
            packaged one), become an ``ExtractiveGenerator``. An address (``http://HOST:PORT/v1``), or a kind of
            server with a model or address (``vllm:MODEL``, ``ollama:MODEL``), is a remote model
            (``mixrag.generator.remote``). None is SmolLM2-135M-Instruct, packaged or from the hub. A GGUF file is
            converted once, into the cache folder (``MIXRAG_CACHE``), unless it is run by llama.cpp.
        tokenizer: a tokenizer object of transformers, its folder or hub name; None is the model's own. That of a
            model object is found by the name that its configuration has.
        template: the prompt; None is the default one, or that of the packaged reader where it is used.
        template_args: arguments of the chat template, beside those of ``template``.
        dtype: float32 (exact, and the default), bfloat16, float16, int8 (on CPUs; see ``int8_linear.py``), auto
            (``resolve_dtype``), or a ``torch.dtype``. Of a model object, its own is the default and the only one.
        torch_dtype: older name of ``dtype`` in transformers.
        device: a torch device; None is the first of cuda, mps and cpu that there is.
        device_map: devices of the model's parts, as ``from_pretrained`` takes it ("auto", a device, a mapping);
            takes the place of ``device``.
        revision: branch, tag or commit of the model and tokenizer on the hub.
        token: access token of the hub.
        adapter: folder with a peft LoRA adapter, or its hub name, ``owner/name`` or ``owner/name@revision``; it is
            added into the weights in float32. "none" for none. None is the packaged reader for the packaged
            model, and none for others.
        prefix_cache: MiB of memory for the states of passages that were read before (causal models); 0 is none.
        span_reader: folder or hub name of an extractive model, "extractive" for the packaged one: the generator is
            the mixture of it and the language model. "none" and None are none.
        language_model_weight: of the language model in that mixture, between 0 and 1.
        api_key_env: environment variable with the key of a remote model; None: no key is sent.
        server_timeout: seconds that one answer of its server may take.
        engine: what runs a causal model loaded by name on a processor: torch, openvino (faster; the model is
            converted once, into the cache folder, and ``dtype`` auto is int8), llamacpp (a GGUF file as it is, its
            quantised weights too), or auto: under ``dtype`` auto llamacpp for a GGUF file that ``model`` names,
            else openvino, where they are installed and can run the model. Or vllm, on devices of its own choice,
            which mixes the branches of a question itself (``mixrag.generator.vllm``).
        engine_args: arguments of ``vllm.EngineArgs``, for engine vllm.
        cuda_graphs: record the decoding steps of a causal model on one GPU (``recorded_steps``).

    Raises:
        ModelError: no usable model or tokenizer there, or the adapter does not fit it.
        PluginError: an object that is neither a model nor has the members of ``Generator``.
        SettingError: an unknown ``dtype`` or ``device``, int8 elsewhere than on a CPU, a dtype that is not that of
            the model object, ``prefix_cache`` below zero, or an ``engine`` for what it does not run.
        MissingPackageError: ``engine`` openvino, llamacpp or vllm without its package.
    """
    if prefix_cache < 0:
        raise SettingError("prefix_cache of 0 MiB or more", f"{prefix_cache}", "choose 0 for no cache")
    check_engine(engine, engine_args, cuda_graphs, "a model behind a server" if is_remote(model) else None)
    dtype = one_dtype(dtype, torch_dtype)
    hub = {key: value for key, value in (("revision", revision), ("token", token)) if value is not None}
    if span_reader is not None and str(span_reader) != NO_ADAPTER:
        options: dict[str, Any] = {"tokenizer": tokenizer, "template": template, "template_args": template_args}
        options |= {"dtype": dtype, "device": device, "device_map": device_map, "adapter": adapter}
        options |= {"engine": engine, "engine_args": engine_args, "cuda_graphs": cuda_graphs}
        found = load_generator(model, **options, revision=revision, token=token, prefix_cache=prefix_cache)
        where = str(getattr(found, "device", "cpu"))
        return with_span_reader(found, span_reader, language_model_weight, where, hub)
    if is_remote(model):
        if adapter is not None and str(adapter) != NO_ADAPTER:
            remedy = "load it into the server, and leave it out here (--adapter none)"
            raise SettingError("no adapter with a model behind a server", f"the adapter {adapter}", remedy)
        from mixrag.generator.remote.client import Limits
        from mixrag.generator.remote.connection import connect

        prompt, limits = (template or PromptTemplate()).with_arguments(template_args or {}), Limits(server_timeout)
        return connect(
            str(model), tokenizer=tokenizer, template=prompt, api_key_env=api_key_env, hub=hub, limits=limits
        )
    named = model is None or isinstance(model, (str, Path))
    if not named and (hasattr(model, "log_likelihood") or not isinstance(model, torch.nn.Module)):
        return check_plugin(model, Generator, "generator")
    extractive = _extractive(model, adapter, hub) if named and model is not None else None
    if extractive is not None:
        own = (template or PromptTemplate()).with_arguments(template_args or {})
        where = _one_device(device, device_map)
        refuse_engine(engine, f"the extractive model {model}")
        return load_extractive(
            str(model), extractive, tokenizer=tokenizer, template=own, dtype=dtype, device=where, hub=hub
        )
    folder = _adapter_folder(model if named else "", adapter)
    if folder is not None:
        folder = downloaded_adapter(folder, hub)
        check_adapter(folder)
    options = {
        "tokenizer": tokenizer,
        "template": (template or _prompt_of(folder)).with_arguments(template_args or {}),
    }
    options |= {"dtype": dtype, "adapter": folder, "hub": hub}
    if named and engine == VLLM:
        if device_map is not None:
            remedy = "leave it out; engine_args say it (tensor_parallel_size=2)"
            raise SettingError("no device_map with engine vllm", f"device_map {device_map}", remedy)
        if device is not None:
            raise SettingError("no device with engine vllm, which chooses it", f"device {device}", "leave it out")
        return inside_vllm(model, **options, arguments=engine_args or {})
    if isinstance(model, torch.nn.Module):
        refuse_engine(engine, "a model object")
        found = generator_of(model, **options)
    else:
        place = _placement(engine, device, device_map)
        found = _of_name(model, *place, **options, engine=engine, budget=prefix_cache * 2**20)
    logger.debug("language model %s on %s in %s", found.name, found.device, found.model.dtype)
    if isinstance(found, CausalGenerator) and is_openvino(found):
        return replace(found, prefix_cache_bytes=prefix_cache * 2**20 or None)
    found = with_prefix_cache(found, prefix_cache) if isinstance(found, CausalGenerator) else found
    return with_cuda_graphs(found, device_map) if cuda_graphs else found


def _extractive(model: Any, adapter: str | Path | None, hub: Mapping[str, Any]) -> Path | str | None:
    """The folder or name of an extractive model; None where a language model is meant."""
    found = extractive_source(EXTRACTIVE if model == EXTRACTIVE else path_or_hub_name(model), hub)
    if found is not None and adapter is not None and str(adapter) != NO_ADAPTER:
        raise SettingError("no adapter with an extractive model", f"{adapter}", "leave it out")
    return found


def _placement(
    engine: str, device: str | torch.device | None, device_map: DeviceMap | None
) -> tuple[str, DeviceMap | None]:
    """As ``placement``; OpenVINO and llama.cpp run on the processor, whatever else there is.

    Raises:
        SettingError: they were asked for another device.
    """
    if engine not in ON_PROCESSORS:
        return placement(device, device_map)
    found = placement("cpu" if device is None and device_map is None else device, device_map)
    if found[1] is not None or torch.device(found[0]).type != "cpu":
        refuse_engine(engine, f"device {found[1] or found[0]}")
    return found


def _one_device(device: str | torch.device | None, device_map: DeviceMap | None) -> str:
    if device_map is not None:
        raise SettingError("one device for an extractive model", f"device_map {device_map}", "give device")
    return placement(device, None)[0]


def default_prompt(name: Any, adapter: str | Path | None) -> PromptTemplate:
    """The prompt of a model and adapter (as for ``load_generator``) for which none is given."""
    return _prompt_of(_adapter_folder(name, adapter))


def _adapter_folder(name: Any, adapter: str | Path | None) -> Path | None:
    if adapter is None:
        return packaged_reader() if name is None else None
    return None if str(adapter) == NO_ADAPTER else expanded(adapter, "an adapter folder")


def _prompt_of(adapter: Path | None) -> PromptTemplate:
    """The prompt that the packaged reader was trained with; the default one for other adapters."""
    if adapter is None or adapter != packaged_reader():
        return PromptTemplate()
    return PromptTemplate(**dict[str, Any](read_bundle(adapter).prompt or {}))


def _of_name(
    model: Any,
    device: str,
    device_map: DeviceMap | None,
    *,
    tokenizer: Any,
    template: PromptTemplate,
    dtype: str | torch.dtype | None,
    adapter: Path | None,
    hub: Mapping[str, Any],
    engine: str,
    budget: int,
) -> CausalGenerator | Seq2SeqGenerator | GGUFGenerator:
    dtype = "float32" if dtype is None else dtype
    found_dtype = resolve_dtype(dtype, device)
    if found_dtype == INT8 and (device_map is not None or torch.device(device).type != "cpu"):
        raise SettingError("int8 on a processor", f"device {device_map or device}", "choose bfloat16 there")
    if device_map is not None and adapter is not None:
        remedy = "save the sum (merge_and_unload of peft) and give its folder"
        raise SettingError("an adapter for a model on one device", f"device_map {device_map}", remedy)
    name = GENERATOR if model is None else str(model)
    default = default_generator() if adapter is None or model is not None else packaged_generator()
    source, beside = (default, None) if model is None else model_source(model)
    tokenizer = beside if tokenizer is None else tokenizer
    from_hub = source == default == HUB_GENERATOR
    if from_hub:
        name = HUB_GENERATOR
        logger.info("%s comes from the hub: its package, which the trained reader needs, is not installed", name)
    on_processor = device_map is None and torch.device(device).type == "cpu"
    if engine == LLAMACPP and (adapter is not None or not isinstance(source, Path) or source.is_dir()):
        remedy = "give engine torch" if adapter is None else "give adapter none, or engine torch"
        refuse_engine(engine, name if adapter is None else f"{name} with an adapter", remedy)
    if isinstance(source, Path) and source.is_file():
        as_named = model is not None and adapter is None and str(dtype) == AUTO and on_processor
        if engine == LLAMACPP or (engine == AUTO and as_named):
            parts = {"tokenizer": tokenizer, "template": template, "dtype": dtype, "budget": budget, "hub": hub}
            if (whole := with_llamacpp(name, source, engine, **parts)) is not None:
                return whole
        source = converted_gguf(source)
    own = name if adapter is None else f"{name} + {'reader' if adapter == packaged_reader() else adapter}"

    def weights(dtype: str) -> Any:
        with quiet_libraries():
            return _weights(name, str(source), dtype, device, device_map, adapter, hub)

    try:
        if engine not in (TORCH, LLAMACPP) and on_processor:

            def build() -> OpenVINOGenerator:
                from mixrag.generator.openvino.generator import openvino_generator

                parts: dict[str, Any] = {"tokenizer": tokenizer, "template": template, "dtype": dtype}
                return openvino_generator(
                    own, source, lambda: weights("float32"), **parts, adapter=adapter, hub=hub
                )

            converted = with_openvino(own, build, engine)
            if converted is not None:
                return converted
        found_tokenizer = loaded_tokenizer(tokenizer, str(source), hub)
        generator = assembled(own, weights(found_dtype), found_tokenizer, template)
        return generator if device_map is not None else _with_kernels(generator)
    except MixragError:
        raise
    except Exception as error:
        if from_hub:
            raise unavailable(name, error) from error
        raise unusable(name, "a causal or seq2seq language model", error) from error


def _with_kernels(generator: CausalGenerator | Seq2SeqGenerator) -> CausalGenerator | Seq2SeqGenerator:
    """The generator, its model changed to run faster; for models on one device that we have loaded."""
    use_onednn_linears(generator.model)
    if isinstance(generator, Seq2SeqGenerator):
        return with_shared_cross_attention(generator)
    if generator.model.dtype == torch.bfloat16:
        from mixrag.generator.kernels.grouped_attention import use_grouped_attention

        use_grouped_attention(generator.model)
    return generator


def _weights(
    name: str,
    source: str,
    dtype: str,
    device: str,
    device_map: DeviceMap | None,
    adapter: Path | None,
    hub: Mapping[str, Any],
) -> Any:
    """The model in evaluation mode, on its devices, the adapter in its weights."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    torch_dtype = DTYPES[resolve_dtype(AUTO, device) if dtype == INT8 else dtype]  # of what is not rounded to int8
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, **hub)
    refuse_text_encoder(name, config)
    factory = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model, loading = factory.from_pretrained(
        source,
        dtype=torch_dtype if adapter is None else torch.float32,
        output_loading_info=True,
        use_safetensors=True,
        trust_remote_code=False,
        **hub,
        **({} if device_map is None else {"device_map": device_map}),
    )
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ModelError("all weights of the model", f"{name} lacks {missing[0]}", "get the complete model")
    if adapter is not None:
        if any(weight.device.type == "meta" for weight in model.parameters()):
            raise ModelError(
                "a model in the memory of its devices", "offloaded weights", "merge the adapter first"
            )
        # Rounded once, after the sum: an adapter's product is small compared with the weights.
        model = cast(merged(model, adapter, name), torch_dtype)
    if dtype == INT8:
        from mixrag.generator.kernels.int8_linear import use_int8

        model = use_int8(model)
    return model.eval() if device_map is not None else model.eval().to(device)
