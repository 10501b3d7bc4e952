"""Faster ways to run a model, used only if a trial at loading shows that they give the same distributions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mixrag.errors import ModelError, SettingError
from mixrag.generator.causal import CausalGenerator
from mixrag.generator.protocol import Prompt
from mixrag.generator.seq2seq import Seq2SeqGenerator
from mixrag.generator.uncached import UncachedGenerator

if TYPE_CHECKING:
    from mixrag.generator.recorded_steps import Recorder

logger = logging.getLogger("mixrag.generator")
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1
"""Twice the total variation by which two ways to compute one distribution may differ: float32, half precision."""


def with_prefix_cache(generator: CausalGenerator, budget: int) -> CausalGenerator | UncachedGenerator:
    """The generator with a prefix cache of ``budget`` MiB, if its model's states can be cached.

    A trial decides: the next token's distribution after a cached passage must be that after the whole prompt. A
    model without keys and values, or whose rows cannot be copied, becomes one that reads whole rows.

    Raises:
        ModelError: it is no causal language model.
    """
    from mixrag.generator.kv_cache import uncacheable

    if not budget:
        return _with_states(replace(generator, prefix_cache_bytes=None))
    if (reason := _uncacheable(uncacheable, generator.model.config)) is not None:
        logger.debug("no prefix cache for %s: %s", generator.name, reason)
        return _with_states(replace(generator, prefix_cache_bytes=None))
    whole, found = (replace(generator, prefix_cache_bytes=each) for each in (None, budget * 2**20))
    trial = [Prompt((), (1, 2, 3, 4, 5, 6, 7), (8, 9)), Prompt((), (1, 2), (8, 9))]
    try:
        expected, cached = (each.start(trial).log_probs.exp() for each in (whole, found))
    except Exception:  # a model's own code may raise anything when it is given states in another cache
        return _with_states(whole)
    agree = _agree(generator.model, expected, cached)
    return replace(found) if agree else _with_states(whole)  # a copy, whose cache is empty


def with_cuda_graphs(generator: Any, device_map: Any) -> CausalGenerator:
    """The generator with decoding steps that are recorded as CUDA graphs.

    Raises:
        SettingError: it is no causal model on one CUDA GPU.
        ModelError: as ``with_recorded_steps``.
    """
    from mixrag.generator.recorded_steps import CudaGraphs

    where = getattr(generator, "device", torch.device("cpu"))
    if not isinstance(generator, CausalGenerator) or where.type != "cuda" or device_map is not None:
        found = f"{generator.name} on {device_map or where}"
        raise SettingError(
            "a causal model with key-value states on one CUDA GPU, for cuda_graphs", found, "leave it out"
        )
    return with_recorded_steps(generator, CudaGraphs(where))


def with_recorded_steps(generator: CausalGenerator, recorder: Recorder) -> CausalGenerator:
    """The generator with decoding steps that are recorded, after a trial: they must give the same distributions.

    Raises:
        ModelError: they do not, or the model's steps cannot be recorded.
    """
    from mixrag.generator.recorded_steps import Steps, unrecordable

    found, expected = f"{generator.name}: ", "a model whose decoding steps can be recorded, for CUDA graphs"
    if (reason := _uncacheable(unrecordable, generator.model.config)) is None:
        recorded = replace(generator, steps=Steps(generator.model, recorder))
        try:
            agree = _agree(generator.model, _after_a_trial(generator), _after_a_trial(recorded))
            reason = None if agree else "they give other distributions"
        except Exception as error:  # of the model's own code, or of the GPU
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        if reason is None:
            return recorded
    raise ModelError(expected, found + reason, "leave cuda_graphs out")


def _uncacheable(test: Callable[[Any], str | None], config: Any) -> str | None:
    try:
        return test(config)
    except Exception as error:  # a configuration that names no layers
        return str(error)


def _with_states(generator: CausalGenerator) -> CausalGenerator | UncachedGenerator:
    """The generator itself where the states of its rows can be copied, else one that reads rows whole.

    Raises:
        ModelError: a token sees those after it, so that the model does not predict text, or it cannot be run.
    """
    fields = (generator.name, generator.model, generator.tokens, generator.stop_tokens, generator.stop_token)
    reading = UncachedGenerator(*fields)
    wanted, remedy = "a causal language model", "choose another model"
    try:
        with torch.inference_mode():
            is_causal = reading.is_causal()
            expected = _after_a_trial(reading)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(wanted, f"{generator.name}, which cannot read tokens ({reason})", remedy) from error
    if not is_causal:
        raise ModelError(wanted, f"{generator.name}, in which a token sees those after it", remedy)
    try:
        agree = _agree(generator.model, expected, _after_a_trial(generator))
    except Exception:  # no keys and values, or states that cannot be copied by rows
        agree = False
    if agree:
        return generator
    logger.warning(
        "%s has no states that can be copied for each answer: the whole prompt is read again for each token, "
        "which is exact and slow",
        generator.name,
    )
    return reading


def _after_a_trial(generator: CausalGenerator | UncachedGenerator) -> Tensor:
    """Probabilities (6, V) after rows of two lengths were copied and continued, some of them once more, and all
    again: what the copies read must not have changed the states of the others.
    """
    branches = generator.start([Prompt((), (1, 2, 3, 4, 5, 6, 7), (8, 9)), Prompt((), (1, 2), (8, 9))])
    longer = branches.advance(torch.tensor((1, 0, 1)), torch.tensor((3, 4, 5)))
    some = longer.select(torch.tensor((2, 0))).advance(torch.tensor((1, 0)), torch.tensor((6, 7)))
    scores = longer.score((8, 9, 3))
    scores = torch.nn.functional.pad(scores.reshape(1, -1), (0, longer.log_probs.shape[1] - scores.numel()))
    return torch.cat([longer.log_probs, some.log_probs, scores.to(longer.log_probs.device)]).exp()


def with_shared_cross_attention(generator: Seq2SeqGenerator) -> Seq2SeqGenerator:
    """The generator, its model changed to share the states of a prompt between answers, if it can.

    A trial decides: the distributions after two answers from each of two prompts must not change.
    See ``kernels/shared_cross_attention.py``.
    """
    from mixrag.generator.kernels.shared_cross_attention import (
        FUSED,
        use_shared_cross_attention,
        uses_shared_cross_attention,
    )

    expected = _distributions_of_two_answers(generator)
    try:
        shared = use_shared_cross_attention(generator.model)
        agree = shared and _agree(generator.model, expected, _distributions_of_two_answers(generator))
    except Exception:  # a model's own code may raise anything when it has fewer keys than rows
        agree = False
    if not agree and uses_shared_cross_attention(generator.model):
        generator.model.set_attn_implementation(FUSED)
    return generator


def _distributions_of_two_answers(generator: Seq2SeqGenerator) -> Tensor:
    """(4, V) after two answers from each of two prompts, their rows reordered once."""
    branches = generator.start([Prompt((), (1, 2, 3, 4, 5, 6, 7), (8, 9)), Prompt((), (1, 2), (8, 9))])
    device = branches.log_probs.device
    for rows, tokens in (((0, 1, 0, 1), (3, 3, 4, 4)), ((2, 3, 0, 1), (5, 5, 6, 6))):
        branches = branches.advance(torch.tensor(rows, device=device), torch.tensor(tokens, device=device))
    return branches.log_probs.exp()


def _agree(model: Any, expected: Tensor, found: Tensor) -> bool:
    tolerance = TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    return bool(((expected - found).abs().sum(-1) < tolerance).all())
