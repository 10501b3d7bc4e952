"""How far rounding moves a language model's probabilities: one number for each number format.

It is h of ``probability.rounding``: how far the log-odds of a next token may be from those that the same model has
in float32, taken from measurements (docs/reference/models.md#rounding).
"""

from __future__ import annotations

from typing import Any

import torch

BY_DTYPE = {torch.float64: 0.0, torch.float32: 0.0, torch.float16: 0.1, torch.bfloat16: 0.75}
"""float32 is the reference. float16 has eight times the precision of bfloat16."""
INT8 = 3.0
"""Linear layers in eight bits, weights and activations."""
OPENVINO_INT8 = 3.0
"""Weights in eight bits, and in products what they are multiplied with, in groups of 32; the rest in bfloat16."""

LLAMACPP_FILE_TYPES = {"0": 0.0, "1": BY_DTYPE[torch.float16], "32": BY_DTYPE[torch.bfloat16]}
"""By ``general.file_type`` of a GGUF file: all weights in float32, float16, bfloat16."""
LLAMACPP_QUANTISED = 1.5
"""Quantised weights of a GGUF file, which are the reference's too; in products what they are multiplied with has
eight bits, in blocks."""
LLAMACPP_STATES = BY_DTYPE[torch.float16]
"""Keys and values in float16, and attention computed in it."""


def rounding_of(generator: Any) -> float:
    """h of a generator; 0 for one that does not say, or does not know: its numbers are taken as they are."""
    return stated_rounding(generator) or 0.0


def stated_rounding(generator: Any) -> float | None:
    """h of a generator, as it says; None for a model behind a server, which may have rounded in ways not known."""
    stated = getattr(generator, "rounding", 0.0)
    return None if stated is None else float(stated)


def rounding_of_model(model: Any) -> float:
    """h of a model of transformers, by its dtype and its layers."""
    eight_bits = any(type(module).__name__ == "Int8Linear" for module in model.modules())
    return INT8 if eight_bits else BY_DTYPE.get(model.dtype, INT8)
