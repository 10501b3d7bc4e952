"""Postings as a file next to a large store, mapped into memory; complete at any instant, rebuilt at any doubt.

``words/words.json`` names the file and is replaced last. The file is of one state of the store. At another state
passages that came since are counted from the store, and those that are gone are marked: adding a document to a
large store does not count all of it again. Where too many have come or gone, the file is written again.

What the files contain is compared with a checksum and with the store before it is used; whatever is wrong with
them leads to new ones.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixrag.corpus import Store
from mixrag.corpus.store.locks import awaited
from mixrag.retrieval.lexical.postings import Postings, inverted
from mixrag.utils.atomic import write_atomically

FOLDER = "words"
FORMAT = 1
ADDED = 0.1
"""The file is written again when so many passages have come since, as a share of those in it,"""
REMOVED = 0.2
"""or this share of them is gone."""
_logger = logging.getLogger("mixrag.retrieval")
_DAMAGED = (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, MemoryError)
"""What reading a damaged file raises."""
_ALIGNMENT = 64
_TYPES: dict[str, str] = {
    "rows": "<i8",
    "marks": "<u8",
    "lengths": "<i8",
    "starts": "<i8",
    "places": "<i4",
    "counts": "<u2",
}
"""The arrays in the file, in this order."""

Live = npt.NDArray[np.bool_]
NONE = inverted(())
"""The postings of no passages."""


class Parts(NamedTuple):
    """The postings of a store: what is in the file, and what came since."""

    base: Postings
    added: Postings
    live: Live | None
    """(P,) which passages of both are in the store; None: all."""


@dataclass(frozen=True)
class _Manifest:
    format: int
    state: str
    file: str
    passages: int
    terms: int
    postings: int
    last_term: str
    """The word with the number ``terms`` - 1: numbers of another store mean other words."""
    checksum: int
    """CRC-32 of the file."""


def postings_of(store: Store) -> Parts:
    """The postings of the store's passages, from the file where it serves; a new one is written where it does not.

    While another process writes it, this waits. Where it cannot be written all is counted in memory: that costs
    time, not the answer.

    Raises:
        StoreCorruptError: the words of passages cannot be read.
    """
    folder = store.cache_directory / FOLDER
    found = _load(folder, store)
    if found is not None:
        return found
    try:
        folder.mkdir(exist_ok=True)
        with awaited(folder / "lock", lambda: _logger.warning(f"waiting for a process that builds {folder}")):
            return _load(folder, store) or _rebuilt(folder, store)
    except OSError:
        return Parts(NONE, inverted(store.words()), None)


def is_current(store: Store) -> bool:
    """Whether the file says that it is of this state of the store; it is not looked into."""
    with suppress(*_DAMAGED):
        return _manifest(store.cache_directory / FOLDER).state == store.state
    return False


def _load(folder: Path, store: Store) -> Parts | None:
    with suppress(*_DAMAGED):
        manifest = _manifest(folder)
        if store.term_ids([manifest.last_term]).get(manifest.last_term, -1) == manifest.terms - 1:
            postings, marks = _opened(folder, manifest)
            return Parts(postings, NONE, None) if manifest.state == store.state else _grown(postings, marks, store)
    return None


def _grown(base: Postings, known: npt.NDArray[np.uint64], store: Store) -> Parts | None:
    """Both parts at another state of the store; None where the file does not serve it."""
    rows, marks = store.marks()
    last = int(base.rows[-1])
    before = rows <= last
    live = np.isin(base.rows, rows[before], assume_unique=True)
    same = np.array_equal(base.rows[live], rows[before]) and np.array_equal(known[live], marks[before])
    if not same or (~live).sum() > REMOVED * len(live) or (~before).sum() > ADDED * len(live):
        return None
    added = inverted(store.words(last))
    return Parts(base, added, np.concatenate([live, np.ones(len(added.rows), bool)]))


def _rebuilt(folder: Path, store: Store) -> Parts:
    postings = inverted(store.words())
    terms = len(postings.starts) - 1
    manifest = _Manifest(
        format=FORMAT,
        state=store.state,
        file=f"postings-{store.state}-{secrets.token_hex(8)}.bin",
        passages=len(postings.rows),
        terms=terms,
        postings=len(postings.places),
        last_term=store.term(terms - 1),
        checksum=0,
    )
    _, marks = store.marks()
    checksum = _write(folder / manifest.file, {"marks": marks, **_arrays(postings)})
    manifest = _Manifest(**{**asdict(manifest), "checksum": checksum})
    write_atomically(folder / "words.json", json.dumps(asdict(manifest), indent=1).encode())
    _remove_other_files(folder, manifest)
    return Parts(postings, NONE, None)


def _arrays(postings: Postings) -> dict[str, npt.NDArray[Any]]:
    return {name: getattr(postings, name) for name in _TYPES if name != "marks"}


def _write(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> int:
    """Write a new file; its checksum."""
    checksum = 0
    try:
        with path.open("xb") as stream:
            for name, kind in _TYPES.items():
                content = np.ascontiguousarray(arrays[name], dtype=kind)
                for piece in (content.view(np.uint8).data, b"\0" * (-content.nbytes % _ALIGNMENT)):
                    stream.write(piece)
                    checksum = zlib.crc32(piece, checksum)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return checksum


def _remove_other_files(folder: Path, manifest: _Manifest) -> None:
    for each in folder.glob("postings-*.bin"):
        if each.name != manifest.file:
            with suppress(OSError):  # where another process has it open and the system minds
                each.unlink()


def _manifest(folder: Path) -> _Manifest:
    """The manifest, if every field has its type; any of ``_DAMAGED`` otherwise."""
    manifest = _Manifest(**json.loads((folder / "words.json").read_text(encoding="utf-8")))
    for field in fields(_Manifest):
        if type(getattr(manifest, field.name)) is not {"int": int, "str": str}[str(field.type)]:
            raise ValueError(f"{field.name} is no {field.type}")
    if manifest.format != FORMAT or Path(manifest.file).name != manifest.file:
        raise ValueError("a manifest of another format, or of a file elsewhere")
    if min(manifest.passages, manifest.terms) < 1 or manifest.postings < 0:
        raise ValueError("a manifest of nothing")
    return manifest


def _opened(folder: Path, manifest: _Manifest) -> tuple[Postings, npt.NDArray[np.uint64]]:
    """The postings and marks in the file; any of ``_DAMAGED`` where they are not what was written."""
    content = np.memmap(folder / manifest.file, np.uint8, "r").view(np.ndarray)
    if zlib.crc32(content.data) != manifest.checksum:
        raise ValueError("another checksum")
    each = manifest.passages
    sizes = [each, each, each, manifest.terms + 1, manifest.postings, manifest.postings]
    arrays: dict[str, Any] = {}
    start = 0
    for (name, kind), size in zip(_TYPES.items(), sizes, strict=True):
        stop = start + size * np.dtype(kind).itemsize
        arrays[name] = content[start:stop].view(kind)
        if len(arrays[name]) != size:
            raise ValueError("a file that is too short")
        start = stop + -stop % _ALIGNMENT
    if start != len(content):
        raise ValueError("a file that is too long")
    marks = arrays.pop("marks")
    return _checked(Postings(**arrays)), marks


def _checked(postings: Postings) -> Postings:
    """The postings themselves, if nothing in them points outside; a checksum can be forged, too."""
    rows, starts, places = postings.rows, postings.starts, postings.places
    sound = (
        starts[0] == 0
        and starts[-1] == len(places)
        and (np.diff(starts) >= 0).all()
        and (np.diff(rows) > 0).all()
        and postings.lengths.min() >= 0
        and places.min(initial=0) >= 0
        and places.max(initial=0) < len(rows)
        and postings.counts.min(initial=1) >= 1
    )
    if not sound:
        raise ValueError("postings that point outside")
    return postings
