"""Which models and settings: what was given, else what a trained folder says, else the packaged and built-in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mixrag.config.bundle import CONFIG, NO_ADAPTER, Bundle, absolute, read_bundle
from mixrag.config.default_models import default_encoder, default_generator, packaged_reader
from mixrag.config.prompt_template import PromptTemplate
from mixrag.config.settings import Settings
from mixrag.errors import SettingError
from mixrag.utils.files import model_digest

PREFIX_CACHE_MIB = 1024
"""Default memory for passages that a language model has read, in MiB."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which models to load, and how; see ``load_encoder`` and ``load_generator``."""

    encoder: str | Path | None = None
    question_encoder: str | Path | None = None
    generator: str | Path | None = None
    prompt: PromptTemplate | None = None
    dtype: str = "auto"
    device: str | None = None
    adapter: str | Path | None = None
    titles: bool | None = None
    prefix_cache: int = PREFIX_CACHE_MIB
    encoder_dtype: str = "auto"


def bundle_for(given: ModelConfig, folder: str | Path | None) -> Bundle | None:
    """The trained RAG asked for; else, for the packaged language model, the one that ships with mixrag.

    Raises:
        ModelError, SettingError: the folder cannot be used; see ``read_bundle``.
    """
    if folder is None and given.generator is None and given.adapter is None:
        folder = packaged_reader()
    return None if folder is None else read_bundle(folder)


def completed(given: ModelConfig, trained: Bundle | None) -> ModelConfig:
    """The models given, completed from the trained folder; its two encoders come together or not at all.

    Raises:
        SettingError: the folder's prompt lacks a field.
    """
    if trained is None:
        return _with_defaults(given)
    found: dict[str, Any] = {**trained.models(), "titles": trained.titles}
    if not same_encoders(given, trained):
        found = {role: found[role] for role in ("generator", "adapter") if role in found}
    if trained.prompt is not None:
        with _found_in(trained):
            found["prompt"] = PromptTemplate(**dict[str, Any](trained.prompt))
    return _with_defaults(
        replace(given, **{name: value for name, value in found.items() if getattr(given, name) is None})
    )


def defaults(
    given: ModelConfig, trained: Bundle | None, settings: Settings | Mapping[str, Any] | None
) -> Settings:
    """The settings given, else those of the trained folder, else the built-in ones.

    Of a ``Settings`` all fields count as given, but for a temperature of None: it is the folder's, where there is
    one. The folder's temperature and null score are on the scale of its encoders' inner products, and left
    out with others.

    Raises:
        SettingError: a value outside its range.
    """
    fitted = {} if trained is None else _fitted(trained)
    if trained is not None and not same_encoders(given, trained):
        fitted = {name: value for name, value in fitted.items() if name not in ("temperature", "null")}
    if isinstance(settings, Settings):
        return replace(settings, temperature=settings.temperature or fitted.get("temperature"))
    refuse_unknown(settings or {})
    return Settings(**{**fitted, **(settings or {})})


def _with_defaults(models: ModelConfig) -> ModelConfig:
    """The default models by their hub names, where their packages are not installed.

    An adapter without a model was made for the packaged model, which then has to be installed.
    """
    encoder, generator = default_encoder(), default_generator()
    if models.encoder is None and isinstance(encoder, str):
        models = replace(models, encoder=encoder)
    if models.generator is None and models.adapter in (None, NO_ADAPTER) and isinstance(generator, str):
        models = replace(models, generator=generator)
    return models


def models_digest(models: ModelConfig) -> str:
    """What the models and the prompt are known by, wherever they lie; of kinds of numbers int8 alone counts."""
    named = (models.generator, models.adapter, models.encoder, models.question_encoder)
    prompt = None if models.prompt is None else asdict(models.prompt)
    rounded = ["int8"] if models.dtype == "int8" else []
    content = json.dumps([*map(model_digest, named), prompt, models.titles, *rounded], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def refuse_unknown(settings: Mapping[str, Any]) -> None:
    """Refuse names that are no settings.

    Raises:
        SettingError: there is one.
    """
    unknown = sorted(set(settings) - set(Settings.__dataclass_fields__))
    if unknown:
        raise SettingError(f"settings among {', '.join(Settings.__dataclass_fields__)}", unknown[0], "rename it")


def _fitted(trained: Bundle) -> dict[str, Any]:
    with _found_in(trained):
        Settings(**dict[str, Any](trained.settings))
    return dict(trained.settings)


def same_encoders(given: ModelConfig, trained: Bundle) -> bool:
    """True where no encoder was given that is not the folder's own."""
    own = {role: str(name) for role, name in trained.models().items()}
    chosen = {"encoder": given.encoder, "question_encoder": given.question_encoder}
    return all(name is None or absolute(name) == own.get(role) for role, name in chosen.items())


@contextmanager
def _found_in(trained: Bundle) -> Iterator[None]:
    """Say of a value out of range that it stands in the trained folder."""
    try:
        yield
    except SettingError as error:
        raise SettingError(f"{error.expected} in {trained.folder / CONFIG}", error.found, "mend it") from error
