"""The folder that a training run leaves: models in the formats of their libraries, a config, a model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mixrag.answers.saving import CARD
from mixrag.config.training_settings import OBJECTIVES, TrainingSettings
from mixrag.errors import TrainingError
from mixrag.training.generators import TrainableGenerator
from mixrag.training.trainable_prior import TrainablePrior
from mixrag.utils.atomic import replace_atomically, write_atomically
from mixrag.utils.quiet import quiet_libraries


def save_part(folder: Path, name: str, save: Callable[[Path], None]) -> str:
    """Have ``save`` write the folder folder/name; it appears complete or not at all. Returns ``name``.

    Raises:
        TrainingError: it cannot be written.
    """
    target = folder / name
    try:
        with quiet_libraries():
            replace_atomically(target, save)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"room to write {target}", str(error), "free it and run the same command again"
        ) from error
    return name


def save_adapter(trained: TrainableGenerator) -> Callable[[Path], None]:
    """Writes peft's folder, in the number format that the forward pass saw."""

    def save(folder: Path) -> None:
        adapted: Any = trained.adapted
        for config in adapted.peft_config.values():
            config.base_model_name_or_path = trained.generator.name
        # Embeddings are not trained; peft would ask a hub about them.
        adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        (folder / CARD).unlink(missing_ok=True)  # peft's empty form; the run writes its own card
        if trained.settings.dtype == "bfloat16":
            weights = folder / "adapter_model.safetensors"
            halves = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(weights).items()}
            save_file(halves, weights, metadata={"format": "pt"})

    return save


def save_generator(trained: TrainableGenerator) -> Callable[[Path], None]:
    """Writes a Hugging Face folder, tokenizer included."""

    def save(folder: Path) -> None:
        trained.generator.model.save_pretrained(str(folder))
        trained.generator.tokens.tokenizer.save_pretrained(str(folder))

    return save


def save_encoders(folder: Path, prior: TrainablePrior) -> dict[str, str]:
    """The trained encoders as sentence-transformers folders, by role."""
    encoder, parts = prior.encoder, prior.parts
    saved: dict[str, str] = {}
    if "encoder" in parts:
        saved["encoder"] = save_part(folder, "encoder", lambda f: _save_encoder(encoder.passage_model, f))
    apart = encoder.question_model is not encoder.passage_model
    if "question-encoder" in parts or ("encoder" in parts and apart):
        saved["question_encoder"] = save_part(
            folder, "question-encoder", lambda f: _save_encoder(encoder.question_model, f)
        )
    return saved


def _save_encoder(model: Any, folder: Path) -> None:
    model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)


@dataclass(frozen=True)
class Card:
    """What a model card says."""

    title: str
    base: Mapping[str, str]
    """What was started from, by role."""
    data: Sequence[str]
    """A line for each file of pairs: name, number of pairs, digest."""
    settings: TrainingSettings
    mixture: Mapping[str, Any]
    results: Sequence[str]
    """Lines, among them the tables of scores."""
    command: str


def write_card(folder: Path, card: Card) -> None:
    """README.md: base models, data, settings, scores, and the command that gives them."""
    settings = {
        key: ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else value
        for key, value in {**asdict(card.settings), **card.mixture}.items()
    }
    lines = [
        f"# {card.title}",
        "",
        f"Trained by mixrag from question-answer pairs alone; objective: {OBJECTIVES[card.settings.objective]}.",
        "Open it with `mixrag ask QUESTION --store STORE --model FOLDER`.",
        "",
        "## Started from",
        "",
        *(f"- {role}: {name}" for role, name in card.base.items()),
        "",
        "## Data",
        "",
        *(f"- {line}" for line in card.data),
        "",
        "## Results",
        "",
        *card.results,
        "",
        "## Settings",
        "",
        "| setting | value |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in settings.items()),
        "",
        *(["## Command", "", "```sh", card.command, "```", ""] if card.command else []),
    ]
    path = folder / CARD
    try:
        write_atomically(path, "\n".join(lines).encode())
    except OSError as error:
        raise TrainingError(
            f"room to write {path}", str(error), "free it and run the same command again"
        ) from error
