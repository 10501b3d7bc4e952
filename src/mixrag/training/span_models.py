"""The extractive reader of a training run: which one it is, how it is loaded for training, and how it is saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mixrag.answers.saving import CARD
from mixrag.config.bundle import NO_ADAPTER, absolute
from mixrag.config.default_models import ENCODER, EXTRACTIVE, default_encoder
from mixrag.config.model_config import ModelConfig
from mixrag.config.prompt_template import PromptTemplate
from mixrag.config.settings import Settings
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import SettingError
from mixrag.generator.adapter import CONFIG as ADAPTER
from mixrag.generator.adapter import WEIGHTS
from mixrag.generator.devices import placement
from mixrag.generator.names import path_or_hub_name
from mixrag.generator.span_loading import (
    ANSWERS,
    extractive_source,
    load_extractive,
    read_span_config,
    write_span_config,
)
from mixrag.training.baselines import BASELINES
from mixrag.training.trainable_spans import TrainableSpans
from mixrag.utils.hashing import model_digest


@dataclass(frozen=True)
class ReaderStart:
    """The extractive reader that a run starts from."""

    source: Path | str
    """Its folder, or the hub name of a whole model."""

    @property
    def adapter(self) -> Path | None:
        """The folder, where it is an adapter; None where it is a whole model."""
        folder = self.source
        return folder if isinstance(folder, Path) and (folder / ADAPTER).is_file() else None

    @property
    def base(self) -> str | None:
        """The encoder that its adapter is for; None is the packaged one. For a new adapter the model itself."""
        if self.adapter is None:
            return absolute(self.source)
        return read_span_config(self.adapter)[1]

    @property
    def digest(self) -> str:
        """What the reader is known by, wherever its files are."""
        known = model_digest(self.source)
        return known if self.adapter is None else f"{known} of {model_digest(self.base or default_encoder())}"


def reader_start(models: ModelConfig) -> ReaderStart | None:
    """The extractive reader that a run starts from; None where its generator is a language model.

    Raises:
        ModelError: a path where there is nothing.
        MissingPackageError: the packaged reader, which is not installed.
        SettingError: an adapter beside it.
    """
    named = models.generator
    if named is None or not isinstance(named, (str, Path)):
        return None
    found = extractive_source(EXTRACTIVE if named == EXTRACTIVE else path_or_hub_name(named), _hub(models))
    if found is None:
        return None
    if models.adapter is not None and str(models.adapter) != NO_ADAPTER:
        raise SettingError("no adapter with an extractive model", f"{models.adapter}", "leave it out")
    return ReaderStart(found)


def check_reader(settings: TrainingSettings, mixture: Settings) -> None:
    """Refuse what an extractive reader cannot be trained with.

    Raises:
        SettingError: a switch, no passages, a null component to be trained, or the reverse divergence.
    """
    if mixture.switch != 0.0:
        expected, found = "--switch 0 to train with an extractive reader", f"switch {mixture.switch:g}"
        raise SettingError(expected, found, "set it: a span is of one passage")
    if mixture.k == 0:
        raise SettingError("-k 1 or more to train with an extractive reader", "k = 0", "set it")
    if "null" in settings.parts:
        expected = "--parts without null (an extractive reader states nothing without a passage)"
        raise SettingError(expected, "null among them", "leave it out")
    if settings.objective == "distill" and settings.reverse:
        expected = "distill without --reverse for an extractive reader: KL(prior ‖ target) is infinite there"
        raise SettingError(expected, "reverse", "leave it out")


def check_reader_baselines(names: Sequence[str]) -> None:
    """Refuse baselines that answer without a passage.

    Raises:
        SettingError: there is one among the names.
    """
    wrong = [name for name in names if BASELINES[name].changes.get("k") == 0]
    if wrong:
        expected = "--baselines that read passages for an extractive reader (concatenation, frozen)"
        raise SettingError(expected, wrong[0], "leave it out")


def trainable_reader(
    models: ModelConfig, template: PromptTemplate, settings: TrainingSettings, start: ReaderStart
) -> TrainableSpans:
    """The reader in float32: an adapter that is trained further, a new one, or all weights.

    Raises:
        ModelError: no usable model there.
    """
    adapter = start.adapter if settings.method == "lora" else None
    if models.device_map is not None:
        found = f"device_map {models.device_map}"
        raise SettingError("one device for an extractive model", found, "give device")
    generator = load_extractive(
        str(models.generator),
        start.source,
        tokenizer=models.tokenizer,
        template=template,
        dtype="float32",
        device=placement(models.device, None)[0],
        hub=_hub(models),
        merge=adapter is None,
    )
    return TrainableSpans(generator, settings, adapter, start.base or ENCODER)


def save_reader(trained: TrainableSpans, start: ReaderStart, models: ModelConfig) -> Callable[[Path], None]:
    """Writes the folder that ``load_extractive`` opens: an adapter with the head, or the whole model."""

    def save(folder: Path) -> None:
        generator = trained.generator
        config = read_span_config(start.source)[0] if isinstance(start.source, Path) else generator.config
        if trained.adapted is None:
            generator.model.save_pretrained(str(folder))
            generator.tokenizer.save_pretrained(str(folder))
            write_span_config(folder, config, None)
        else:
            for each in trained.adapted.peft_config.values():
                each.base_model_name_or_path = Path(trained.base).name
            trained.adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
            (folder / CARD).unlink(missing_ok=True)
            if trained.settings.dtype == "bfloat16":
                halves = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(folder / WEIGHTS).items()}
                save_file(halves, folder / WEIGHTS, metadata={"format": "pt"})
            write_span_config(folder, config, start.base)
        _save_answer_tokenizer(trained, start, models, folder)

    return save


def _save_answer_tokenizer(trained: TrainableSpans, start: ReaderStart, models: ModelConfig, folder: Path) -> None:
    """That of the answers goes along where it is not that of the packaged language model."""
    own = start.source / ANSWERS if isinstance(start.source, Path) else None
    if models.tokenizer is not None:
        trained.generator.answers.tokens.tokenizer.save_pretrained(str(folder / ANSWERS))
    elif own is not None and own.is_dir():
        shutil.copytree(own, folder / ANSWERS)


def _hub(models: ModelConfig) -> dict[str, Any]:
    named = {"revision": models.revision, "token": models.token}
    return {key: value for key, value in named.items() if value is not None}
