"""Tokenizer and configuration of a causal model, as transformers read them once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mixrag.generator.light.entries import about, discard, entry, reading_files, remember
from mixrag.generator.light.tokenizer import LightTokenizer, check_tokenizer, read_tokenizer, write_tokenizer

_CONFIG = (
    "model_type",
    "is_encoder_decoder",
    "is_decoder",
    "vocab_size",
    "max_position_embeddings",
    "n_positions",
)


@dataclass(frozen=True)
class Reading:
    """What reads and ends texts for a model."""

    tokenizer: Any
    config: Any
    """Of transformers, or those of its fields that decide how texts are read."""
    generation: Any
    """The generation configuration; of it ``eos_token_id``."""


def light_reading(folder: Path, load: Callable[[], Any]) -> Reading | None:
    """Of the model in a folder; None where it is not known. ``load`` loads the tokenizer of transformers."""
    place = _place(folder)
    found = about(place)
    if found is None:
        return None
    try:
        tokenizer = read_tokenizer(place, found["tokenizer"], load)
        return Reading(tokenizer, SimpleNamespace(**found["config"]), SimpleNamespace(**found["generation"]))
    except Exception as error:  # of a damaged file the tokenizers library raises just this
        discard(place, error)
        return None


def remember_reading(folder: Path, reading: Reading) -> None:
    """Write down the tokenizer and configurations of transformers for this folder, where they can be."""
    config = {name: getattr(reading.config, name, None) for name in _CONFIG}

    def write(place: Path) -> dict[str, Any]:
        tokenizer = write_tokenizer(reading.tokenizer, place)
        generation = {"eos_token_id": getattr(reading.generation, "eos_token_id", None)}
        return {"tokenizer": tokenizer, "config": config, "generation": generation}

    def check(place: Path) -> None:
        found = about(place)
        assert found is not None
        light: LightTokenizer = read_tokenizer(place, found["tokenizer"], lambda: reading.tokenizer)
        check_tokenizer(light, reading.tokenizer)

    remember(_place(folder), write, check)


def _place(folder: Path) -> Path:
    return entry("reading", reading_files(folder))
