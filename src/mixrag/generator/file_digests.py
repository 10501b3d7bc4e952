"""Digests of files that are remembered in the cache folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mixrag.errors import ModelError
from mixrag.utils.atomic import write_atomically
from mixrag.utils.hashing import file_digest
from mixrag.utils.user_cache import cache_folder

DIGESTS = "digests.json"
REMEMBERED = 1000
"""Digests of files that are remembered."""


def remembered_digests(files: Sequence[Path]) -> list[str]:
    """SHA-256 of files; each is read once, and again when anything of it changes.

    The time of its content can be set to a fixed one, as builds of images do; so the file's number and the time of
    its last change of any kind, which nobody can set, count as well as its size.

    Raises:
        ModelError: a file cannot be read.
    """
    memory = cache_folder() / DIGESTS
    known: dict[str, str] = {}
    with suppress(OSError, ValueError, AttributeError):
        known = {str(key): str(value) for key, value in json.loads(memory.read_text(encoding="utf-8")).items()}
    before, found = len(known), list[str]()
    for file in files:
        try:
            state = file.stat()
            marks = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
            place = f"{file.resolve()} {' '.join(map(str, marks))}"
            if place not in known:
                known[place] = file_digest(file)
        except OSError as error:
            raise ModelError("a model that can be read", str(error), "correct it") from error
        found.append(known[place])
    if len(known) > before:
        kept = dict([*known.items()][-REMEMBERED:])
        with suppress(OSError):  # a digest that is not remembered is computed again
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(memory, json.dumps(kept).encode(), shared=True)
    return found
