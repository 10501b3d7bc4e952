"""A LoRA adapter, added into the weights of the model that it was made for.

W + (α/r) B A is again a matrix, so the result is a plain model, which runs as fast as without an adapter.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mixrag.errors import MixragError, ModelError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_LARGEST = 10**6
"""No rank and no alpha is larger: the sum with the weights would not be finite."""
_NAME = "default"
"""peft's name of the one adapter in a model; it is part of the names of its weights."""


def check_adapter(folder: Path) -> None:
    """Refuse a folder without a LoRA adapter in safetensors; neither weights nor peft are loaded.

    Raises:
        ModelError: no such folder, another kind of adapter, or weights in a pickle.
    """
    wanted = "a folder with a peft LoRA adapter (or: none)"
    if not folder.is_dir():
        raise ModelError(wanted, f"no such folder: {folder}", "check the path")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config["peft_type"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        reason = f"no usable {CONFIG} in {folder} ({_line(error)})"
        raise ModelError(wanted, reason, "name the folder that save_pretrained wrote") from error
    if (wrong := _out_of_range(config)) is not None:
        raise ModelError(
            f"numbers of a LoRA adapter in {folder / CONFIG} (rank 1 or more, alpha above 0, finite)",
            wrong,
            "correct the file, or train the adapter again",
        )
    if kind != "LORA":
        raise ModelError(wanted, f"peft type {kind!r:.40} in {folder}", "train an adapter of type LORA")
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{WEIGHTS} in {folder}", "none", "save the adapter with safe_serialization=True")


def _out_of_range(config: Mapping[str, Any]) -> str | None:
    """The first number that no adapter can have, with its name; None where all can be."""
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    if not isinstance(ranks, dict) or not isinstance(alphas, dict):
        return "a rank_pattern or alpha_pattern that is no object"
    wanted_ranks = {"r": config.get("r", 8), **{f"rank_pattern[{key!r}]": each for key, each in ranks.items()}}
    wanted_alphas = {"lora_alpha": config.get("lora_alpha", 8)}
    wanted_alphas |= {f"alpha_pattern[{key!r}]": each for key, each in alphas.items()}
    for name, rank in wanted_ranks.items():
        if type(rank) is not int or not 1 <= rank <= _LARGEST:
            return f"{name} {rank!r:.40}"
    for name, alpha in wanted_alphas.items():
        if type(alpha) not in (int, float) or not 0 < alpha <= _LARGEST:
            return f"{name} {alpha!r:.40}"
    return None


def merged(model: Any, folder: Path, base: str) -> Any:
    """The model with the adapter's product in its weights; arguments and errors as ``added``."""
    return added(model, folder, base).merge_and_unload()


def added(model: Any, folder: Path, base: str, *, trainable: bool = False) -> Any:
    """peft's model with the adapter's weights separate; ``model`` itself is changed.

    Args:
        model: a transformers model in float32.
        folder: a peft folder that ``check_adapter`` lets through.
        base: how messages call the model.
        trainable: the adapter's weights will be trained.

    Raises:
        ModelError: the adapter does not fit the model, or not all of it does.
    """
    remedy = "name the base model that it was made for, or give --adapter none"
    expected = f"a LoRA adapter made for {base}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what peft warns about is refused below
            adapted, wrong = _adapted(model, folder, trainable)
            if wrong:
                raise ModelError(expected, f"{wrong} in {folder}{_made_for(folder)}", remedy)
            return adapted
    except MixragError:
        raise
    except Exception as error:
        raise ModelError(expected, f"{_line(error)} in {folder}{_made_for(folder)}", remedy) from error


def cast(model: Any, dtype: torch.dtype) -> Any:
    """The model, changed in place to another dtype, as ``from_pretrained`` would have loaded it.

    ``model.to`` would also convert buffers (the frequencies of rotary positions), and weights that the model
    wants in float32 (T5's output projections in float16).
    """
    wide = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        wide |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name, tensor in model.state_dict(keep_vars=True).items():
        stays = any(re.search(rf"(^|\.){part}(\.|$)", name) for part in wide)
        if tensor.is_floating_point() and not stays:
            tensor.data = tensor.data.to(dtype)
    model.config.dtype = dtype
    return model


def _adapted(model: Any, folder: Path, trainable: bool) -> tuple[Any, str | None]:
    """The model with the adapter's weights separate, and what is wrong with it, if anything."""
    from peft import PeftConfig, PeftModel

    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and head.weight is embeddings.weight
    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = not trainable
    # PeftModel.from_pretrained does the same, and does not report what it could not load.
    adapted = PeftModel(model, config, _NAME, low_cpu_mem_usage=True)
    loading = adapted.load_adapter(
        str(folder), _NAME, is_trainable=trainable, torch_device="cpu", low_cpu_mem_usage=True
    )
    if tied and any(
        hasattr(m, "base_layer") for m in (model.get_output_embeddings(), model.get_input_embeddings())
    ):
        return adapted, "a change of one of two layers that share their weights in this model"
    if loading.missing_keys:
        return adapted, f"no {loading.missing_keys[0]}"
    if loading.unexpected_keys:
        return adapted, f"{loading.unexpected_keys[0]}, unknown there,"
    # Checked here, since peft's own check (safe_merge) reads all weights of the base model.
    own = {name: weight for name, weight in adapted.named_parameters() if f".{_NAME}." in f"{name}."}
    wild = next((name for name, weight in own.items() if not bool(weight.isfinite().all())), None)
    return adapted, f"infinity or NaN in {wild}" if wild else None


def _made_for(folder: Path) -> str:
    base = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    return f", which names {base[:100]!r} as its base" if isinstance(base, str) and base else ""


def _line(error: Exception) -> str:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"no {reason}" if isinstance(error, KeyError) else reason
