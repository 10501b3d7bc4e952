"""Passages read ahead of any question, and kept in files beside the store.

The files of a language model lie in a folder named by its weights, so that another model, another adapter or
another kind of number never meets them; a passage whose text changes has other tokens, and so another file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mixrag.corpus import Store
from mixrag.errors import ModelError, OutputError
from mixrag.generator import CausalGenerator, Generator
from mixrag.generator.prefix_cache import DiskPrefixCache
from mixrag.utils.arrays import Rows
from mixrag.utils.progress import Progress, ProgressEvent, guarded

FOLDER = "warm"
"""In the store's directory."""
AT_ONCE = 16
"""Passages read in one go."""
HEAD = 512
"""Bytes that the head of a file takes at most."""


@dataclass(frozen=True, slots=True)
class Precomputed:
    """What is in files, after reading ahead."""

    passages: int
    """Passages whose states are there."""
    of: int
    """Passages of the store."""
    read: int
    """Passages that were read now."""
    bytes: int
    """Of all files of this model."""


def folder_of(directory: Path, generator: CausalGenerator) -> Path:
    """Where the files of a language model lie, by its weights as they are now; it need not exist."""
    found = hashlib.sha256()
    for name, weight in generator.model.state_dict().items():
        found.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return directory / FOLDER / found.hexdigest()[:16]


def attach(generator: Generator, directory: Path) -> None:
    """Let a generator that keeps passages find those beside a store, if there are any."""
    if not (directory / FOLDER).is_dir():
        return
    if isinstance(generator, CausalGenerator) and generator.prefix_cache is not None:
        folder = folder_of(directory, generator)
        if folder.is_dir():
            generator.use_files(folder)


def precompute(
    store: Store, generator: Generator, max_bytes: int, progress: Progress | None = None
) -> Precomputed:
    """Read the passages of a store, one to a prompt, until all are in files or ``max_bytes`` are taken.

    Files of passages that the store no longer has are deleted first.

    Args:
        store: its passages, in the order in which they were indexed.
        generator: a causal model with a passage cache.
        max_bytes: of all files of this model together.
        progress: called with stage "reading passages".

    Raises:
        ModelError: the model keeps no passages.
        OutputError: a file cannot be written.
    """
    if not isinstance(generator, CausalGenerator) or generator.prefix_cache is None:
        remedy = "choose such a model, and a --prefix-cache above 0"
        raise ModelError("a causal model whose passages can be kept", generator.name, remedy)
    folder = folder_of(store.directory, generator)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _written(store, generator, generator.use_files(folder), max_bytes, guarded(progress))
    except OSError as error:
        found, remedy = f"{folder}: {error.strerror or error}", "mend it and run again: what is there stays"
        raise OutputError("files of what was read to be written", found, remedy) from error


def _written(
    store: Store,
    generator: CausalGenerator,
    files: DiskPrefixCache,
    max_bytes: int,
    progress: Progress,
) -> Precomputed:
    rows = store.rows_where({})
    _delete_others(files, {files.path(p).name for some in _prefixes(store, generator, rows) for p in some})
    size, there, read, done = files_and_bytes(files.folder)[1], 0, 0, 0
    for prefixes in _prefixes(store, generator, rows):
        missing, room = list[tuple[int, ...]](), max_bytes - size
        for prefix in dict.fromkeys(prefixes):
            needed = len(prefix) * files.like.nbytes + HEAD
            if prefix and needed <= room and not files.holds(prefix):
                missing.append(prefix)
                room -= needed
        for prefix, states in (generator.passage_states(missing) if missing else {}).items():
            content = files.content(prefix, states)
            files.write(prefix, content)
            size, read = size + len(content), read + 1
        there, done = there + sum(bool(p) and files.holds(p) for p in prefixes), done + len(prefixes)
        progress(ProgressEvent("reading passages", done, len(rows)))
    return Precomputed(there, len(rows), read, size)


def _prefixes(store: Store, generator: CausalGenerator, rows: Rows) -> Iterator[list[tuple[int, ...]]]:
    """What stands before the question in the prompts of passages, some at a time."""
    for start in range(0, len(rows), AT_ONCE):
        passages = store.passages(rows[start : start + AT_ONCE])
        prompts = [generator.prompt("?", [passage], 0) for passage in passages]
        yield [prompt.header + prompt.passages for prompt in prompts]


def _delete_others(files: DiskPrefixCache, names: set[str]) -> None:
    for each in files.folder.glob("*.safetensors"):
        if each.name not in names:
            each.unlink(missing_ok=True)


def files_and_bytes(folder: Path) -> tuple[int, int]:
    """How many files of passages lie in a folder and below, and their bytes."""
    found = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    sizes = [each.stat().st_size for each in found if each.suffix == ".safetensors" and each.is_file()]
    return len(sizes), sum(sizes)


def forget(directory: Path) -> int:
    """Delete the files of all models beside a store; returns how many they were.

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
        raise OutputError("files of what was read to be deleted", found, "delete them by hand") from error
    return count
