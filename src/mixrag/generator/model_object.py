"""A generator from a model object that the caller has loaded; the object is never changed."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import MixragError, ModelError, SettingError
from mixrag.generator.adapter import cast, check_adapter, merged
from mixrag.generator.assembly import assembled, refuse_text_encoder
from mixrag.generator.causal import CausalGenerator
from mixrag.generator.devices import AUTO, memory_dtype, resolve_dtype
from mixrag.generator.names import unusable
from mixrag.generator.seq2seq import Seq2SeqGenerator
from mixrag.generator.tokenizer import tokenizer_for

WANTED = "a causal or seq2seq model of transformers"


def generator_of(
    model: torch.nn.Module,
    *,
    tokenizer: Any,
    template: PromptTemplate,
    dtype: str | torch.dtype | None,
    adapter: Path | None,
    hub: Mapping[str, Any],
) -> CausalGenerator | Seq2SeqGenerator:
    """See ``load_generator``."""
    base = _language_model(model)
    name = str(getattr(base.config, "_name_or_path", "")) or type(base).__name__
    refuse_text_encoder(name, base.config)
    if dtype is not None and resolve_dtype(dtype, None) != memory_dtype(base) and str(dtype) != AUTO:
        found = f"a model object in {memory_dtype(base)}"
        raise SettingError(f"dtype {dtype}", found, "leave dtype out, or load the model in that dtype")
    if base.training:
        raise ModelError("a model object in evaluation mode", "training mode (dropout)", "call model.eval() first")
    found_tokenizer = tokenizer_for(base, tokenizer, hub)
    try:
        if adapter is not None:
            base, name = _copy_with_adapter(model, base, adapter, name), f"{name} + {adapter}"
        return assembled(name, base, found_tokenizer, template)
    except MixragError:
        raise
    except Exception as error:
        raise unusable(name, WANTED, error) from error


def _language_model(model: torch.nn.Module) -> Any:
    """The transformers model itself; of peft's wrapper the model inside, which runs its adapters too."""
    from transformers import PreTrainedModel

    remedy = "load it with AutoModelForCausalLM or AutoModelForSeq2SeqLM, or write a Generator"
    config = getattr(model, "active_peft_config", None)
    if config is not None:
        if config.is_prompt_learning:
            raise ModelError(
                f"{WANTED}, or one with a LoRA adapter", f"peft type {config.peft_type.value}", remedy
            )
        model = model.get_base_model()  # type: ignore[operator]
    if not isinstance(model, PreTrainedModel):
        raise ModelError(WANTED, f"a {type(model).__name__}", remedy)
    if model.get_output_embeddings() is None:
        raise ModelError(WANTED, f"{type(model).__name__}, which has no output layer", remedy)
    return model


def _copy_with_adapter(model: Any, base: Any, adapter: Path, name: str) -> Any:
    """A copy with the adapter in its weights, summed in float32 and rounded once to the dtype of ``base``."""
    if model is not base:
        raise ModelError("a model object without an adapter of its own", "peft's model", "give one adapter only")
    if (
        getattr(base, "hf_quantizer", None) is not None
        or len(set(getattr(base, "hf_device_map", {}).values())) > 1
    ):
        remedy = "call merge_and_unload() of its PeftModel, and give the result"
        raise ModelError(
            "an adapter for a model on one device, not quantized", f"{name}, which is neither", remedy
        )
    check_adapter(adapter)
    copy = cast(deepcopy(base), torch.float32)
    return cast(merged(copy, adapter, name), base.dtype).eval()
