"""Precomputed states of passages, in files next to the store, so that a question starts after them at once.

The files of a language model are in a folder named by a hash of its weights and configuration: another model,
adapter, dtype or engine has another folder, and nothing in the name is of one machine, so that several may share
them. A passage whose text, tokenizer or prompt changes has other tokens, and so another file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mixrag.corpus import Store
from mixrag.errors import ModelError, OutputError
from mixrag.generator import CausalGenerator, Generator
from mixrag.generator.engines import is_openvino
from mixrag.generator.mixed import language_model_of
from mixrag.generator.prefix_cache import DiskPrefixCache
from mixrag.utils.arrays import Rows
from mixrag.utils.progress import Progress, ProgressEvent, guarded

FOLDER = "warm"
"""In the store's directory; its name is part of the storage format."""
BATCH = 16
"""Passages read at once."""
HEADER = 512
"""Bytes that the header of a file takes at most."""
_DESCRIPTIVE = frozenset({"transformers_version", "architectures", "dtype", "torch_dtype", "name_or_path"})
"""What a configuration says that changes no states; the dtype is that of the weights."""
_REMEDY = "choose a causal model that fits into memory, and prefix_cache above 0"


@dataclass(frozen=True, slots=True)
class Precomputed:
    """The result of ``precompute``."""

    passages: int
    """Passages whose states are on disk."""
    of: int
    """Passages of the store."""
    read: int
    """Passages that were read now."""
    bytes: int
    """Of all files of this model."""


def folder_of(directory: Path, generator: CausalGenerator) -> Path:
    """The folder for a language model's files, by its weights as they are now, and its configuration.

    It need not exist.

    Raises:
        ModelError: weights that accelerate moves to a device only while they are used.
    """
    if is_openvino(generator):
        return directory / FOLDER / str(generator.model.digest)[:16]
    found = hashlib.sha256(_described(generator.model.config))
    for name, weight in generator.model.state_dict().items():
        if weight.device.type == "meta":
            raise ModelError("a model whose weights are all in memory", f"{name} is offloaded", _REMEDY)
        found.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return directory / FOLDER / found.hexdigest()[:16]


def _described(config: Any) -> bytes:
    """What a configuration says of the computation: layers, norms, rotary positions."""
    values = {} if config is None else config.to_dict()
    said = {key: value for key, value in values.items() if key not in _DESCRIPTIVE and not key.startswith("_")}
    return json.dumps(said, sort_keys=True, default=str).encode()


def attach(generator: Generator, directory: Path) -> None:
    """Let a generator with a prefix cache use the files next to a store, if there are any."""
    if not (directory / FOLDER).is_dir():
        return
    generator = language_model_of(generator)
    if isinstance(generator, CausalGenerator) and generator.prefix_cache is not None:
        with suppress(ModelError):  # offloaded weights: no files can be theirs
            folder = folder_of(directory, generator)
            if folder.is_dir():
                generator.use_disk_cache(folder)


def precompute(
    store: Store, generator: Generator, max_bytes: int, progress: Progress | None = None
) -> Precomputed:
    """Read the passages of a store, one in a prompt, until all are on disk or ``max_bytes`` are used.

    Files of passages that the store no longer has are deleted first.

    Args:
        store: its passages, in the order in which they were indexed.
        generator: a causal model with a prefix cache.
        max_bytes: of all files of this model together.
        progress: called with stage "reading passages".

    Raises:
        ModelError: the generator has no prefix cache, or its weights are offloaded.
        OutputError: a file cannot be written.
    """
    if not isinstance(generator, CausalGenerator) or generator.prefix_cache is None:
        raise ModelError("a causal model with a prefix cache", generator.name, _REMEDY)
    folder = folder_of(store.cache_directory, generator)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _written(store, generator, generator.use_disk_cache(folder), max_bytes, guarded(progress))
    except OSError as error:
        found, remedy = f"{folder}: {error.strerror or error}", "correct it and run again: finished files stay"
        raise OutputError("precomputed files that can be written", found, remedy) from error


def _written(
    store: Store,
    generator: CausalGenerator,
    disk: DiskPrefixCache,
    max_bytes: int,
    progress: Progress,
) -> Precomputed:
    rows = store.rows_where({})
    wanted = {disk.path(prefix).name for some in _prefixes(store, generator, rows) for prefix in some}
    for file in disk.folder.glob("*.safetensors"):
        if file.name not in wanted:
            file.unlink(missing_ok=True)
    size, present, read, done = files_and_bytes(disk.folder)[1], 0, 0, 0
    for prefixes in _prefixes(store, generator, rows):
        missing, available = list[tuple[int, ...]](), max_bytes - size
        for prefix in dict.fromkeys(prefixes):
            needed = len(prefix) * disk.example.nbytes + HEADER
            if prefix and needed <= available and not disk.contains(prefix):
                missing.append(prefix)
                available -= needed
        for prefix, states in (generator.prefix_states(missing) if missing else {}).items():
            content = disk.content(prefix, states)
            disk.write(prefix, content)
            size, read = size + len(content), read + 1
        present, done = present + sum(bool(p) and disk.contains(p) for p in prefixes), done + len(prefixes)
        progress(ProgressEvent("reading passages", done, len(rows)))
    return Precomputed(present, len(rows), read, size)


def _prefixes(store: Store, generator: CausalGenerator, rows: Rows) -> Iterator[list[tuple[int, ...]]]:
    """Header and passage tokens of the prompts of all passages, a batch at a time."""
    for start in range(0, len(rows), BATCH):
        passages = store.passages(rows[start : start + BATCH])
        prompts = [generator.prompt("?", [passage], 0) for passage in passages]
        yield [prompt.header + prompt.passages for prompt in prompts]


def files_and_bytes(folder: Path) -> tuple[int, int]:
    """The number of precomputed files in a folder and below, and their bytes."""
    found = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    sizes = list[int]()
    for each in found:
        with suppress(OSError):  # another process deletes what is no longer wanted
            if each.suffix == ".safetensors" and each.is_file():
                sizes.append(each.stat().st_size)
    return len(sizes), sum(sizes)


def forget(directory: Path) -> int:
    """Delete the files of all models next to a store; returns their number.

    Raises:
        OutputError: they cannot be deleted.
    """
    folder = directory / FOLDER
    count, _ = files_and_bytes(folder)
    try:
        if folder.is_symlink():
            folder.unlink()  # what it points to belongs to somebody else
        elif folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        found = f"{folder}: {error.strerror or error}"
        raise OutputError("precomputed files that can be deleted", found, "delete them by hand") from error
    return count
