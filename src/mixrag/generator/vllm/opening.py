"""An engine of vLLM in this process, with what mixing needs of it; the package is imported here and nowhere else.

All rows of a question have to be in one step, so requests are added and steps made in this process
(``VLLM_ENABLE_V1_MULTIPROCESSING=0``), one step after the other. The model itself may be spread over many
processes and machines.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import torch

from mixrag.errors import ModelError, SettingError
from mixrag.generator.vllm.engine import Engine, Limits
from mixrag.utils.extras import require

PROCESSOR = "mixrag.generator.vllm.processor:MixtureLogitsProcessor"
ENTRY_POINTS = "vllm.logits_processors"
ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
"""The second keeps vLLM from reporting its use to its makers."""
NEEDED: Mapping[str, Any] = {
    "enable_prefix_caching": True,
    "logprobs_mode": "raw_logprobs",
    "max_logprobs": -1,
    "async_scheduling": False,
    "trust_remote_code": False,
    "generation_config": "vllm",
}
"""Without a ``generation_config`` of the model: it would change how tokens are chosen."""
OURS = (*NEEDED, "model", "tokenizer", "revision", "tokenizer_revision", "dtype", "hf_token", "logits_processors")
REFUSED = (*OURS, "speculative_config", "data_parallel_size", "skip_tokenizer_init", "runner")
"""Arguments that nobody else sets: with other values rows are not mixed, or not what they are taken for."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine with what is known of its model."""

    engine: Engine
    vocabulary_size: int
    """V, of its logits."""
    context_size: int
    """Tokens that prompt and answer may have together, one less than vLLM's: it writes one after a given text."""
    dtype: torch.dtype
    quantised: bool
    in_process: bool
    """Whether the model runs in this process as well."""


def check_arguments(given: Mapping[str, Any]) -> None:
    """Refuse arguments of the engine that mixing depends on.

    Raises:
        SettingError: one of these.
    """
    for name in given:
        if name in REFUSED:
            expected = f"engine_args without {name}, which mixrag sets or cannot use"
            raise SettingError(expected, f"{name}={given[name]!r}", "leave it out")


def opened(
    model: str, tokenizer: str | None, dtype: str, given: Mapping[str, Any], hub: Mapping[str, Any]
) -> Opened:
    """The engine that runs a model.

    Args:
        model: folder or hub name.
        tokenizer: folder or hub name of another tokenizer than the model's.
        dtype: auto, float32, bfloat16 or float16.
        given: further arguments of ``vllm.EngineArgs``.
        hub: ``revision`` and ``token`` for the hub.

    Raises:
        SettingError: an argument that mixing depends on, or that vLLM does not know.
        MissingPackageError: vLLM is not installed.
        ModelError: vLLM cannot run the model, or reads its other engine.
    """
    check_arguments(given)
    os.environ.update(ENVIRONMENT)
    vllm = require("vllm", "vllm", "--engine vllm")
    arguments = {**given, **NEEDED, "model": model, "dtype": dtype, "disable_log_stats": True}
    if tokenizer is not None:
        arguments["tokenizer"] = tokenizer
    arguments |= {name: hub[key] for name, key in (("revision", "revision"), ("hf_token", "token")) if key in hub}
    if not _installed():
        arguments["logits_processors"] = [PROCESSOR]
    try:
        made = vllm.EngineArgs(**arguments)
    except TypeError as error:
        raise SettingError("engine_args that vllm.EngineArgs has", str(error)[:200], "correct them") from error
    try:
        engine = vllm.LLMEngine.from_engine_args(made)
    except Exception as error:  # whatever of model, devices, memory or kernels it does not like
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        remedy = "see the lines that vLLM wrote before, or give engine torch"
        raise ModelError(f"a model that vLLM can run at {model!r}", reason, remedy) from error
    return described(engine, vllm.SamplingParams)


def described(engine: Any, params: Any) -> Opened:
    """What the configuration of an engine says."""
    config = engine.vllm_config
    scheduler, cache, parallel, model = (
        getattr(config, f"{name}_config") for name in ("scheduler", "cache", "parallel", "model")
    )
    blocks = getattr(cache, "num_gpu_blocks", None)
    limits = Limits(
        rows=int(scheduler.max_num_seqs),
        step=int(scheduler.max_num_batched_tokens),
        block=int(cache.block_size),
        memory=None if not blocks else (int(blocks) - 1) * int(cache.block_size),  # one block stays empty
    )
    return Opened(
        Engine(engine, params, limits),
        vocabulary_size=int(model.get_vocab_size()),
        context_size=int(model.max_model_len) - 1,
        dtype=model.dtype,
        quantised=getattr(model, "quantization", None) is not None
        or getattr(cache, "cache_dtype", "auto") not in ("auto", str(model.dtype).removeprefix("torch.")),
        in_process=int(parallel.world_size) == 1,
    )


def _installed() -> bool:
    """Whether vLLM finds the processor by itself: as it does of an installed mixrag."""
    return any(point.value == PROCESSOR for point in entry_points(group=ENTRY_POINTS))
