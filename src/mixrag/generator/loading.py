"""From a path, a hub name or a GGUF file to a Generator."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import torch

from mixrag.config.bundle import NO_ADAPTER, read_bundle
from mixrag.config.default_models import (
    GENERATOR,
    HUB_GENERATOR,
    default_generator,
    packaged_generator,
    packaged_reader,
    unavailable,
)
from mixrag.config.model_config import PREFIX_CACHE_MIB
from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import MixragError, ModelError, SettingError
from mixrag.generator.adapter import cast, check_adapter, merged
from mixrag.generator.causal import CausalGenerator
from mixrag.generator.kernels.onednn_linear import use_packed_linears
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.protocol import Generator
from mixrag.generator.self_check import with_prefix_cache, with_shared_prompts
from mixrag.generator.seq2seq import Seq2SeqGenerator
from mixrag.utils.atomic import replace_atomically
from mixrag.utils.cpu_features import native_bfloat16

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO, INT8 = "auto", "int8"
_LOG = logging.getLogger("mixrag.generator")
UNLIMITED_CONTEXT = 2**20
"""Stands in where a model states no context length (T5's relative positions have none)."""


def load_generator(
    name: str | Path | None = None,
    *,
    template: PromptTemplate | None = None,
    dtype: str = "float32",
    device: str | None = None,
    adapter: str | Path | None = None,
    prefix_cache: int = PREFIX_CACHE_MIB,
) -> Generator:
    """Load a causal or seq2seq language model.

    Args:
        name: folder with a Hugging Face model, a GGUF file, or a hub name; None is SmolLM2-135M-Instruct, packaged
            or from the hub. A GGUF file is converted once, into the cache folder (``MIXRAG_CACHE``).
        template: the prompt; None is the default one, or that of the packaged reader where it is used.
        dtype: float32 (exact), bfloat16, float16, int8 (on processors; see ``int8.py``), or auto
            (``resolve_dtype``).
        device: a torch device; None takes a GPU where there is one.
        adapter: folder with a peft LoRA adapter, which is added into the weights in float32; "none" for none.
            None is the packaged reader for the packaged model, and none for others.
        prefix_cache: MiB of memory for the states of passages read before (causal models); 0 keeps none.

    Raises:
        ModelError: no usable model there, its packaged file is not installed, or the adapter does not fit it.
        SettingError: an unknown ``dtype``, int8 elsewhere than on a processor, or ``prefix_cache`` below zero.
    """
    dtype = resolve_dtype(dtype, device)
    if dtype == INT8 and not _on_processor(device):
        raise SettingError("int8 on a processor", f"device {device or default_device()}", "choose bfloat16 there")
    if prefix_cache < 0:
        raise SettingError("prefix_cache of 0 MiB or more", f"{prefix_cache}", "choose 0 to keep no passage")
    shown = GENERATOR if name is None else str(name)
    folder = _adapter_folder(name, adapter)
    if folder is not None:
        check_adapter(folder)
    default = default_generator() if folder is None or name is not None else packaged_generator()
    source = default if name is None else _existing_or_hub_name(name)
    from_hub = source == default == HUB_GENERATOR
    if from_hub:
        shown = HUB_GENERATOR
        _LOG.info("%s comes from the hub: its package, which the trained reader needs, is not installed", shown)
    if isinstance(source, Path) and source.is_file():
        source = converted_gguf(source)
    try:
        found = _load(shown, str(source), template or _prompt_of(folder), dtype, device, folder)
    except MixragError:
        raise
    except Exception as error:
        if from_hub:
            raise unavailable(shown, error) from error
        raise unusable(shown, "a causal or seq2seq language model", error) from error
    return with_prefix_cache(found, prefix_cache) if isinstance(found, CausalGenerator) else found


def default_prompt(name: str | Path | None, adapter: str | Path | None) -> PromptTemplate:
    """The prompt of a model and adapter (as for ``load_generator``) for which none is given."""
    return _prompt_of(_adapter_folder(name, adapter))


def _adapter_folder(name: str | Path | None, adapter: str | Path | None) -> Path | None:
    if adapter is None:
        return packaged_reader() if name is None else None
    return None if str(adapter) == NO_ADAPTER else _expanded(adapter, "an adapter folder")


def _prompt_of(adapter: Path | None) -> PromptTemplate:
    """The prompt that the packaged reader was trained with; the default one for other adapters."""
    if adapter is None or adapter != packaged_reader():
        return PromptTemplate()
    return PromptTemplate(**dict[str, Any](read_bundle(adapter).prompt or {}))


def _shown(name: str, adapter: Path | None) -> str:
    if adapter is None:
        return name
    return f"{name} + {'reader' if adapter == packaged_reader() else adapter}"


def unusable(name: str, wanted: str, error: Exception) -> ModelError:
    """One line for whatever a model library raises."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(f"{wanted} at {name!r}", reason, "give a model folder, a GGUF file or a hub name")


def _existing_or_hub_name(name: str | Path) -> Path | str:
    path = _expanded(name, "a model")
    if path.exists():
        if path.is_file() and path.suffix != ".gguf":
            raise ModelError("a model folder, a .gguf file or a hub name", f"the file {path}", "check the path")
        return path.resolve()
    looks_like_path = isinstance(name, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path or path.suffix == ".gguf":
        raise ModelError("a model folder, a .gguf file or a hub name", f"no such path: {name}", "check the path")
    return str(name)


def _expanded(name: str | Path, wanted: str) -> Path:
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        raise unusable(str(name)[:100], wanted, error) from error
    return path


def _load(
    name: str,
    source: str,
    template: PromptTemplate,
    numbers: str,
    device: str | None,
    adapter: Path | None,
) -> Generator:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    dtype = DTYPES[resolve_dtype(AUTO, device) if numbers == INT8 else numbers]  # of what is not rounded to int8
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    _refuse_text_encoder(name, config)
    factory = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model, loading = factory.from_pretrained(
        source,
        dtype=dtype if adapter is None else torch.float32,
        output_loading_info=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ModelError("all weights of the model", f"{name} lacks {missing[0]}", "get the complete model")
    if adapter is not None:
        # Rounded once, after the sum: an adapter's product is small beside the weights.
        model = cast(merged(model, adapter, name), dtype)
    if numbers == INT8:
        from mixrag.generator.kernels.int8_linear import use_int8

        model = use_int8(model)
    model = model.eval().to(device or default_device())
    tokens = PromptTokenizer(tokenizer, template, context_size(config, tokenizer), config.is_encoder_decoder)
    tokens.prompt("", (), 0)  # a chat template that fails should fail here
    stop_tokens = _stop_tokens(model, tokenizer)
    stop_token = tokens.turn_end(stop_tokens) or tokenizer.eos_token_id
    name = _shown(name, adapter)
    use_packed_linears(model)
    if not config.is_encoder_decoder:
        if dtype == torch.bfloat16:
            from mixrag.generator.kernels.grouped_attention import use_grouped_attention

            use_grouped_attention(model)
        return CausalGenerator(name, model, tokens, stop_tokens | {stop_token}, stop_token)
    return with_shared_prompts(
        Seq2SeqGenerator(name, model, tokens, stop_tokens, stop_token, decoder_start(model))
    )


def _refuse_text_encoder(name: str, config: Any) -> None:
    """transformers loads BERT and its kin as causal models, though each word sees those behind it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS

    if config.model_type in ENCODERS and not config.is_encoder_decoder and not config.is_decoder:
        raise ModelError(
            "a causal or seq2seq language model", f"the text encoder {name}", "use it as --encoder instead"
        )


def resolve_dtype(dtype: str, device: str | None) -> str:
    """The dtype asked for; of "auto" bfloat16, where the processor (or the GPU) multiplies it, else float32.

    Raises:
        SettingError: an unknown one.
    """
    if dtype not in (AUTO, *DTYPES, INT8):
        expected = f"dtype among {', '.join((AUTO, *DTYPES, INT8))}"
        raise SettingError(expected, repr(dtype), "choose one of them")
    if dtype != AUTO:
        return dtype
    native = native_bfloat16() if _on_processor(device) else _gpu_has_bfloat16()
    return "bfloat16" if native else "float32"


def _gpu_has_bfloat16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def _on_processor(device: str | None) -> bool:
    return torch.device(device or default_device()).type == "cpu"


def default_device() -> str:
    """A GPU where torch sees one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def context_size(config: Any, tokenizer: Any) -> int:
    """Tokens that the model can read, as its configuration or its tokenizer states."""
    stated = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions")]
    if config.is_encoder_decoder and config.model_type in ("t5", "mt5", "umt5"):
        stated = []
    limits = [int(limit) for limit in (*stated, tokenizer.model_max_length) if limit and limit < UNLIMITED_CONTEXT]
    return min(limits, default=UNLIMITED_CONTEXT)


def decoder_start(model: Any) -> tuple[int, ...]:
    """The ids a seq2seq decoder begins with: its start token, and a first token that it is forced to say."""
    config, generation = model.config, model.generation_config
    start = generation.decoder_start_token_id
    start = config.decoder_start_token_id if start is None else start
    forced = getattr(generation, "forced_bos_token_id", None)
    return (int(start),) if forced is None else (int(start), int(forced))


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    stated = model.generation_config.eos_token_id
    ids = set(stated) if isinstance(stated, (list, tuple)) else {stated}
    found = frozenset(int(i) for i in (*ids, tokenizer.eos_token_id) if i is not None)
    if tokenizer.eos_token_id is None:
        raise ModelError("a model with an end-of-text token", "none", "set eos_token in its tokenizer")
    return found


def cache_folder() -> Path:
    """Where converted models are kept: MIXRAG_CACHE, else XDG_CACHE_HOME/mixrag, else ~/.cache/mixrag."""
    own = os.environ.get("MIXRAG_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixrag"


def converted_gguf(file: Path) -> Path:
    """Folder with the de-quantised safetensors of a GGUF file, made at the first call.

    It is named by the file's content, and appears only when it is complete.

    Raises:
        ModelError: the file is not a GGUF that transformers can read.
    """
    try:
        target = cache_folder() / f"gguf-{_digest(file)[:24]}"
        if not target.exists():
            # Another process may do the same; its folder has the same content.
            replace_atomically(target, lambda folder: _convert_gguf(file, folder), shared=True)
    except OSError as error:
        raise ModelError("a cache folder to convert the GGUF into", str(error), "set MIXRAG_CACHE") from error
    except Exception as error:
        raise unusable(str(file), "a GGUF language model", error) from error
    return target


def _convert_gguf(file: Path, folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    seq2seq = AutoConfig.from_pretrained(**source).is_encoder_decoder
    factory = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    model = factory.from_pretrained(**source, dtype=torch.float32)
    # The weights are plain floats now; left in place, these two make transformers refuse to save them.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
