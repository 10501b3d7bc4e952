"""A random LoRA adapter for one of ``tiny_models``, saved as peft saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

import tiny_models

TARGETS = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "llama-chat": ["q_proj", "v_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj"],
    "t5": ["q", "v", "wo"],
    "bart": ["q_proj", "fc1"],
}


def adapted(kind: str, **options: Any) -> Any:
    """peft's model, with a product that is not zero; equal in every call."""
    model, _ = tiny_models.build(kind)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS[kind], "fan_in_fan_out": kind == "gpt2"}
        peft_model = get_peft_model(model, LoraConfig(**{**config, **options}))
        for name, weight in peft_model.named_parameters():
            if ".lora_" in name:
                weight.data.normal_(std=0.2)
    return peft_model.eval()


def save_adapter(kind: str, folder: Path, **options: Any) -> Path:
    """The folder with what ``adapted`` gives."""
    adapted(kind, **options).save_pretrained(str(folder), save_embedding_layers=False)
    return folder
