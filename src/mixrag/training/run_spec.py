"""What is trained on what, and whose folder it is: a folder belongs to one run and refuses another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixrag.answers.pipeline import Pipeline
from mixrag.config.bundle import NO_ADAPTER
from mixrag.config.default_models import packaged_reader
from mixrag.config.model_config import ModelConfig
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import CheckpointError, TrainingError
from mixrag.generator import PromptTemplate
from mixrag.generator.adapter import WEIGHTS
from mixrag.generator.loading import default_prompt
from mixrag.inference.decoders import recorded
from mixrag.pairs.pairs import Pair, digest
from mixrag.utils.atomic import WRITING, write_atomically
from mixrag.utils.hashing import model_digest

RECORD = "run.json"
"""What the folder's run was made of; see ``fingerprint``."""
LONGEST_VALUE = 40
"""Characters of a setting's value in a message."""


@dataclass(frozen=True)
class RunSpec:
    """What is trained on what: the request of one run."""

    rag: Pipeline
    """The store, the models to start from, and the mixture's settings."""
    pairs: tuple[Pair, ...]
    dev: tuple[Pair, ...]
    settings: TrainingSettings
    folder: Path
    passages_first: bool = False
    """Before the pairs, learn the store's passages as plain text (the closed-book baseline)."""


def fingerprint(spec: RunSpec, reader: str | None = None) -> dict[str, str]:
    """What makes two runs the same, by name; a checkpoint of another is refused.

    ``reader`` is the digest of an extractive reader in the place of a language model.
    """
    rag, models = spec.rag, spec.rag.models
    store = rag.store.encoder
    return {
        "language model": model_digest(models.generator) if reader is None else reader,
        "adapter to start from": model_digest(starting_adapter(models)),
        "prompt": json.dumps(starting_prompt(models).fields(), sort_keys=True),
        "encoder": store.fingerprint if store else "none",
        "question encoder": model_digest(models.question_encoder),
        "store": rag.store.digest(),
        "training pairs": digest(spec.pairs),
        "dev pairs": digest(spec.dev) if spec.dev else "none",
        "mixture settings": json.dumps(recorded(rag.settings), sort_keys=True),
        "training settings": json.dumps(asdict(spec.settings), sort_keys=True),
        "passages first": str(spec.passages_first),
    }


def starting_adapter(models: ModelConfig) -> Path | None:
    """The adapter that a run starts from: the one given, or the packaged reader of the packaged model."""
    if models.adapter is not None:
        return None if str(models.adapter) == NO_ADAPTER else Path(models.adapter).expanduser()
    return packaged_reader() if models.generator is None else None


def starting_prompt(models: ModelConfig) -> PromptTemplate:
    """The prompt that training uses: the one given, or that of the reader it starts from."""
    prompt = models.prompt or default_prompt(models.generator, models.adapter)
    return prompt.with_arguments(models.template_args)


def shown_adapter(adapter: Path | None) -> str:
    """What an adapter is called; the packaged reader by its content, since its path depends on the machine."""
    if adapter is None:
        return NO_ADAPTER
    if adapter != packaged_reader():
        return str(adapter)
    return f"the packaged reader ({hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest()[:16]})"


def refuse_other(folder: Path, wanted: Mapping[str, str]) -> None:
    """Refuse a folder that holds something else.

    Raises:
        CheckpointError: it is not empty and not of this run.
    """
    record = folder / RECORD
    if record.exists():
        found = _recorded(record)
        differs = [name for name in wanted if found.get(name) != wanted[name]]
        if differs:
            what = "; ".join(_difference(name, str(found.get(name)), wanted[name]) for name in differs)
            raise CheckpointError(f"the run that {folder} was made for", what, "give another --out")
    elif _in_use(folder):
        raise CheckpointError("an empty or new folder", f"files in {folder}", "give another --out")


def _difference(name: str, found: str, wanted: str) -> str:
    """What of two runs differs, by the names of settings where the record has them."""
    there, here = (_settings(text) for text in (found, wanted))
    if there is None or here is None:
        return f"another {name}"
    changed = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    shown = ", ".join(f"{key} {_value(here.get(key))}, there {_value(there.get(key))}" for key in changed)
    return f"another {name} ({shown})"


def _settings(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def claim(folder: Path, wanted: Mapping[str, str], accelerator: Any) -> None:
    """Write down whose folder it is, once nothing can be refused any more."""
    try:
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / RECORD, json.dumps(dict(wanted), indent=1).encode())
    except OSError as error:
        raise TrainingError(f"a folder to write to at {folder}", str(error), "give another --out") from error
    accelerator.wait_for_everyone()


def _in_use(folder: Path) -> bool:
    """True where there is anything but the half-written record of a killed run."""
    try:
        return folder.exists() and any(path.name != f"{WRITING}{RECORD}" for path in folder.iterdir())
    except OSError as error:  # a file, or a folder that cannot be read
        raise TrainingError(f"a folder to write to at {folder}", str(error), "give another --out") from error


def _recorded(record: Path) -> dict[str, Any]:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the record of a run in {record}", str(error), "give another --out") from error
    return found if isinstance(found, dict) else {}
