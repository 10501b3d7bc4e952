"""Passages read ahead of any question, and kept in files beside the store.

The files of a language model lie in a folder named by its content, so that another model, another adapter or
another kind of number never meets them; a passage whose text changes has other tokens, and so another file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mixrag.corpus import Store
from mixrag.errors import ModelError, OutputError
from mixrag.files import model_digest
from mixrag.generator import CausalGenerator, Generator
from mixrag.models import Models
from mixrag.packaged import packaged_generator, packaged_reader

FOLDER = "warm"
"""In the store's directory."""
AT_ONCE = 16
"""Passages read in one go."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """What is in files, after reading ahead."""

    passages: int
    """Passages whose states are there."""
    of: int
    """Passages of the store."""
    read: int
    """Passages that were read now."""
    bytes: int
    """Of all files of this model."""


def folder_of(directory: Path, models: Models) -> Path:
    """Where the files of this language model lie; it need not exist."""
    adapter = models.adapter
    if adapter is None and models.generator is None:
        adapter = packaged_reader()
    generator = packaged_generator() if models.generator is None else models.generator
    content = json.dumps([model_digest(generator), model_digest(adapter), models.dtype])
    return directory / FOLDER / hashlib.sha256(content.encode()).hexdigest()[:16]


def attach(generator: Generator, folder: Path) -> None:
    """Let a generator that keeps passages find those in the folder, if there is one."""
    if isinstance(generator, CausalGenerator) and generator.passage_cache is not None and folder.is_dir():
        generator.use_files(folder)


def warm(
    store: Store, generator: Generator, folder: Path, max_bytes: int, told: Callable[[int, int], None]
) -> Warmed:
    """Read the passages of a store, one to a prompt, until all are in files or ``max_bytes`` are taken.

    Args:
        store: its passages, in the order in which they were indexed.
        generator: a causal model with a passage cache.
        folder: for the files; see ``folder_of``.
        max_bytes: of all files of this model together.
        told: called with passages done and all.

    Raises:
        ModelError: the model keeps no passages.
        OutputError: a file cannot be written.
    """
    if not isinstance(generator, CausalGenerator) or generator.passage_cache is None:
        remedy = "choose such a model, and a --passage-cache above 0"
        raise ModelError("a causal model whose passages can be kept", generator.name, remedy)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _written(store, generator, folder, max_bytes, told)
    except OSError as error:
        found, remedy = f"{folder}: {error.strerror or error}", "free it, or lower --gib; what is there stays"
        raise OutputError("room for what was read", found, remedy) from error


def _written(
    store: Store, generator: CausalGenerator, folder: Path, max_bytes: int, told: Callable[[int, int], None]
) -> Warmed:
    files, rows = generator.use_files(folder), store.rows_where({})
    size, done, read = sum(each.stat().st_size for each in folder.glob("*.safetensors")), 0, 0
    for start in range(0, len(rows), AT_ONCE):
        passages = store.passages(rows[start : start + AT_ONCE])
        prompts = [generator.prompt("?", [passage], 0) for passage in passages]
        prefixes = [prompt.header + prompt.passages for prompt in prompts]
        missing = [*dict.fromkeys(prefix for prefix in prefixes if prefix and not files.path(prefix).is_file())]
        if missing and size < max_bytes:
            for prefix, states in generator.passage_states(missing).items():
                if size + states.nbytes <= max_bytes:
                    size += files.write(prefix, states)
                    read += 1
        done += sum(files.path(prefix).is_file() for prefix in prefixes if prefix)
        told(min(start + AT_ONCE, len(rows)), len(rows))
    return Warmed(done, len(rows), read, size)


def files_and_bytes(directory: Path) -> tuple[int, int]:
    """How many files of passages lie beside a store, of all models, and their bytes."""
    sizes = [each.stat().st_size for each in (directory / FOLDER).glob("*/*.safetensors")]
    return len(sizes), sum(sizes)


def forget(directory: Path) -> int:
    """Delete the files of all models; returns how many they were."""
    count, _ = files_and_bytes(directory)
    shutil.rmtree(directory / FOLDER, ignore_errors=True)
    return count
