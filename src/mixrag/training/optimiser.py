"""AdamW over the trained weights of all parts, and its agreement between processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixrag.config.training_settings import TrainingSettings


@dataclass(frozen=True)
class ParameterGroup:
    """Weights that share a peak learning rate and a norm to which their gradient is cut."""

    name: str
    weights: Mapping[str, Tensor]
    rate: float
    decay: float


def parts(
    generator: Mapping[str, Tensor],
    encoder: Mapping[str, Tensor],
    scalars: Mapping[str, Tensor],
    settings: TrainingSettings,
) -> list[ParameterGroup]:
    """The parts that have something to train."""
    found = [
        ParameterGroup("generator", generator, settings.generator_rate, settings.weight_decay),
        ParameterGroup("encoder", encoder, settings.encoder_rate, settings.weight_decay),
        ParameterGroup("scalars", scalars, settings.scalar_rate, 0.0),
    ]
    return [part for part in found if part.weights]


def adamw(parts: list[ParameterGroup]) -> torch.optim.AdamW:
    """One group of weights for each part."""
    groups: list[dict[str, Any]] = [
        {"params": list(part.weights.values()), "lr": part.rate, "weight_decay": part.decay} for part in parts
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def named_weights(parts: list[ParameterGroup]) -> dict[str, Tensor]:
    """All trained weights as "part/name"."""
    return {f"{part.name}/{name}": weight for part in parts for name, weight in part.weights.items()}


def add_up(parts: list[ParameterGroup], accelerator: Any) -> None:
    """Sum the gradients of all processes, as one message a part."""
    if accelerator.num_processes == 1:
        return
    for part in parts:
        weights = list(part.weights.values())
        # A process whose questions need no backward pass has no gradient of its own.
        own = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        flat = torch.cat([gradient.flatten() for gradient in own])
        flat = accelerator.reduce(flat.to(accelerator.device), "sum").to(flat.device)
        for weight, gradient in zip(weights, flat.split([w.numel() for w in weights]), strict=True):
            weight.grad = gradient.view_as(weight)


def clip(parts: list[ParameterGroup], limit: float) -> dict[str, float]:
    """Cut each part's gradient to the norm ``limit``; the norms before."""
    return {part.name: float(torch.nn.utils.clip_grad_norm_(list(part.weights.values()), limit)) for part in parts}


def all_finite(values: Mapping[str, float]) -> bool:
    """True where none is NaN or infinite."""
    return all(math.isfinite(value) for value in values.values())
