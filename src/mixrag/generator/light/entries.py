"""What is known of a model since transformers loaded it, in the cache folder: it can then be run without.

An entry is a folder, named by the content of the model's files and by the versions of the libraries that read
them. It is written after a trial that it gives what the reference gives, and appears complete or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mixrag.generator.file_digests import remembered_digests
from mixrag.utils.atomic import remove, replace_atomically
from mixrag.utils.user_cache import cache_folder

logger = logging.getLogger("mixrag.generator")
FORMAT = 1
"""To be raised where an entry holds something else than before."""
ABOUT = "about.json"
READING = ("config.json", "generation_config.json", "*tokenizer*", "special_tokens_map.json", "added_tokens.json")
"""Names of files that decide how texts become tokens, and where answers end."""
VOCABULARIES = ("*.model", "vocab*", "merges.txt", "*.jinja")
LIBRARIES = ("transformers", "tokenizers", "sentence-transformers")


class UnlikeError(Exception):
    """Not what the reference gives; the message says what."""


def reading_files(folder: Path) -> list[Path]:
    """The files of a model's folder from which tokenizer and configuration are read."""
    return files_of(folder, (*READING, *VOCABULARIES))


def files_of(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of a folder with such names, in a fixed order."""
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


def entry(kind: str, files: Sequence[Path], *more: str) -> Path:
    """Folder of the entry for these files.

    Raises:
        ModelError: a file cannot be read.
    """
    named = [[file.name, digest] for file, digest in zip(files, remembered_digests(files), strict=True)]
    content = json.dumps([FORMAT, kind, *map(_version, LIBRARIES), named, more])
    return cache_folder() / f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:24]}"


def about(folder: Path) -> dict[str, Any] | None:
    """What an entry says; None where there is none that can be read."""
    try:
        found = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        for name, size in found["files"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} has another size")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        discard(folder, error)
        return None
    return dict(found)


def discard(folder: Path, error: Exception) -> None:
    """Delete an entry that cannot be used."""
    logger.debug("%s is damaged (%s)", folder, error)
    remove(folder)


def remember(folder: Path, write: Callable[[Path], Mapping[str, Any]], check: Callable[[Path], object]) -> bool:
    """Make an entry; whether it is there.

    Whatever prevents it is no error, since the reference has been loaded.

    Args:
        folder: the entry's.
        write: writes files into a new folder, and returns what the entry is to say.
        check: the trial of the folder that is complete; it raises where anything differs.
    """

    def make(place: Path) -> None:
        place.mkdir(parents=True)
        said = dict(write(place))
        files = {each.name: each.stat().st_size for each in place.iterdir()}
        (place / ABOUT).write_text(json.dumps({**said, "files": files}), encoding="utf-8")
        check(place)

    if about(folder) is not None:
        return True
    try:
        replace_atomically(folder, make, shared=True)
    except Exception as error:  # of the disk, of a trial; the tokenizers library raises just this
        logger.debug("no %s: %s", folder.name, error)
        return False
    return True


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
