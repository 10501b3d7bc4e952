"""The folder of a trained RAG: ``mixrag.json`` names the models and settings that belong together.

    {"format": 1,
     "generator": null, "adapter": {"folder": "adapter"},
     "encoder": null, "question_encoder": {"folder": "question-encoder"}, "titles": false,
     "span_reader": null,
     "settings": {"k": 5, "temperature": 0.03}, "prompt": null}

A model is ``{"folder": …}``, a sub-folder that goes along wherever the folder is copied, or ``{"name": …}``, a
path or hub name from elsewhere, or null, the packaged model (of ``span_reader``: none). The file is data, and may
come from strangers: a sub-folder cannot be outside the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from mixrag.config.prompt_template import PromptTemplate
from mixrag.config.schema import Setting, schema, settings_of, unknown
from mixrag.config.settings import TRAINED, Settings
from mixrag.config.values import Words
from mixrag.errors import ModelError, TrainingError
from mixrag.utils.atomic import write_atomically

CONFIG = "mixrag.json"
FORMAT = 1
NO_ADAPTER = "none"
"""In the place of an adapter: none, not even the packaged one."""
MODELS = ("generator", "adapter", "encoder", "question_encoder", "span_reader")


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a folder of a trained RAG holds.

    The models are strings: the relative path of a sub-folder of ``folder`` where there is one of this name,
    else a name as ``load_generator`` and ``load_encoder`` take it (a path elsewhere, a hub name); None is the
    packaged model.
    """

    folder: Path
    generator: str | None = None
    """The language model: the one that the adapter was made for, or one with all weights trained."""
    adapter: str | None = None
    """A peft LoRA adapter; "none" refuses the packaged one too."""
    encoder: str | None = None
    """The passages' encoder, and the questions' unless they have their own."""
    question_encoder: str | None = None
    """The questions' encoder; None: the passages'."""
    span_reader: str | None = None
    """An extractive model beside the language model: the generator is the mixture of both. "extractive" is the
    packaged one; None: there is none."""
    settings: Mapping[str, int | float | str] = field(default_factory=dict)
    """Fields of ``Settings`` that were fitted, or that were in force in training."""
    prompt: Mapping[str, Any] | None = None
    """Fields of ``PromptTemplate``; None: the default one."""
    titles: bool | None = None
    """Whether titles are embedded with the passages; see ``load_encoder``."""

    def models(self) -> dict[str, str | Path]:
        """The models by role, sub-folders as absolute paths; the packaged ones are left out."""
        named = {role: getattr(self, role) for role in MODELS}
        return {role: _inside(self.folder, name) or name for role, name in named.items() if name is not None}


def write_bundle(trained: Bundle) -> None:
    """Write ``mixrag.json`` into the folder; it appears complete or not at all.

    Sub-folders must be there already. A name that is a path on this machine becomes absolute.

    Raises:
        SettingError: a setting that a trained folder cannot hold.
        TrainingError: it cannot be written.
    """
    document: dict[str, Any] = {"format": FORMAT}
    document |= {role: _entry(trained.folder, role, getattr(trained, role)) for role in MODELS}
    document |= {"titles": trained.titles, "settings": dict(trained.settings)}
    document["prompt"] = None if trained.prompt is None else dict(trained.prompt)
    path = trained.folder / CONFIG
    _checked(path, document)
    try:
        write_atomically(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode())
    except OSError as error:
        raise TrainingError(
            f"room to write {path}", str(error), "free it and run the same command again"
        ) from error


def read_bundle(folder: str | Path) -> Bundle:
    """The trained RAG in a folder.

    Raises:
        ModelError: no such folder, no usable ``mixrag.json``, one from a newer mixrag, or a missing sub-folder.
        SettingError: a key that is unknown, or a value of another type or range.
    """
    try:
        home = Path(folder).expanduser().resolve()
        path = home / CONFIG
        if not home.is_dir():
            raise ModelError("the folder of a trained RAG", f"no such folder: {folder}", "check the path")
        if not path.is_file():
            raise ModelError(
                f"the folder of a trained RAG, with {CONFIG}", f"none in {folder}", "name what mixrag train wrote"
            )
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: nested too deeply, or no such home
        remedy = "copy the folder again, or write it again with mixrag train"
        raise ModelError(f"a JSON object in {CONFIG} of {folder}", str(error), remedy) from error
    fields: dict[str, Any] = dict(_checked(path, document))
    fields |= {key: document[key] for key in ("settings", "prompt", "titles") if document.get(key) is not None}
    return Bundle(home, **fields)


def absolute(name: str | Path) -> str:
    """A path on this machine, absolute; any other name as it is."""
    try:
        path = Path(name).expanduser()
        return str(path.resolve()) if path.exists() else str(name)
    except (OSError, RuntimeError, ValueError):
        return str(name)


def _entry(folder: Path, role: str, name: str | None) -> dict[str, str] | None:
    if name is None:
        return None
    if role == "adapter" and name == NO_ADAPTER:
        return {"name": name}
    return {"folder": name} if _inside(folder, name) else {"name": absolute(name)}


def _inside(folder: Path, name: str) -> Path | None:
    """The sub-folder of this relative path, if there is one; links that lead out of ``folder`` do not count."""
    if not _is_relative(name):
        return None
    path, home = (folder / name).resolve(), folder.resolve()
    return path if path.is_dir() and path.is_relative_to(home) else None


def _is_relative(name: str) -> bool:
    """Neither absolute nor with "..", on any system."""
    bad = name.startswith(("/", "\\", "~")) or ":" in name or "\0" in name or not name
    return not bad and ".." not in name.replace("\\", "/").split("/")


def _checked(path: Path, document: Any) -> dict[str, str]:
    """The models of a document whose every key and value is as it should be."""
    if not isinstance(document, dict) or type(document.get("format")) is not int:
        raise ModelError(
            f'a JSON object with "format" in {path}', _shown(document), "write it again with mixrag train"
        )
    if document["format"] != FORMAT:
        found = f"format {document['format']}"
        raise ModelError(f"format {FORMAT} in {path}", found, "upgrade mixrag, or train with this version")
    _check_keys(path, document, settings_of(BundleDocument), required=False)
    trained = {name: settings_of(Settings)[name] for name in TRAINED}
    _check_keys(path, document.get("settings") or {}, trained, "settings.")
    _check_keys(path, document.get("prompt") or {}, settings_of(PromptTemplate), "prompt.")
    return {role: _resolved(path, role, document[role]) for role in MODELS if document.get(role) is not None}


def _check_keys(
    path: Path,
    table: Mapping[str, Any],
    allowed: Mapping[str, Setting],
    prefix: str = "",
    *,
    required: bool = True,
) -> None:
    for key, value in table.items():
        if key not in allowed:
            raise unknown(key, allowed, f"keys of {path}", prefix)
        allowed[key].checked(value, f"{prefix}{key} in {path}", required=required)


def _resolved(path: Path, role: str, entry: Mapping[str, str]) -> str:
    (kind, name), folder = next(iter(entry.items())), path.parent
    inside = _inside(folder, name)
    if kind == "folder" and not _is_relative(name):
        raise ModelError(f"a sub-folder as {role} in {path}", _shown(name), "use a relative path without '..'")
    if kind == "folder" and inside is None:
        raise ModelError(
            f"the sub-folder {name} as {role} in {folder}", "no such folder", "copy the whole folder again"
        )
    if kind == "name" and inside is not None:
        raise ModelError(f'{{"folder": "{name}"}} as {role} in {path}', _shown(entry), "correct the file")
    return name


def _shown(value: Any) -> str:
    return repr(value)[:100]


def _model_entry(value: Any) -> Any:
    if not isinstance(value, dict) or list(value) not in (["folder"], ["name"]):
        raise ValueError("no model")
    if not all(isinstance(name, str) for name in value.values()):
        raise ValueError("no name")
    return value


ModelEntry = Annotated[Any, BeforeValidator(_model_entry), Words('{"folder": …} or {"name": …}')] | None


@schema
class BundleDocument:
    """The keys of ``mixrag.json``."""

    format: int
    generator: ModelEntry = None
    adapter: ModelEntry = None
    encoder: ModelEntry = None
    question_encoder: ModelEntry = None
    span_reader: ModelEntry = None
    titles: bool | None = None
    settings: Mapping[str, Any] | None = None
    prompt: Mapping[str, Any] | None = None
