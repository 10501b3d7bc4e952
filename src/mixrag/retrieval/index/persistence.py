"""The IVF index as files next to the store: built once, appended to, mapped; complete at any instant.

``index/index.json`` names the other files and is replaced last. Vectors are in one file of D float32 a line, which
grows at its end: lines beyond the number in ``index.json`` are of an update that was cut off, and the next one
writes over them. Codes, about a tenth of the vectors, and statistics of the clusters are written again each time.
Updates take turns; a reader meanwhile has the old files. Removed passages lose their lines when the index is
trained again.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from mixrag.corpus.store.locks import exclusive
from mixrag.retrieval.index.cluster_stats import ClusterStats
from mixrag.retrieval.index.ivf import IVFIndex, build_ivf, extended
from mixrag.utils.arrays import Rows, Vectors
from mixrag.utils.atomic import write_atomically

FOLDER = "index"
FORMAT = 1
GROWTH = 2.0
"""An index is trained again when the corpus has grown to so many times what it was trained on."""
REMOVED = 0.2
"""And when this share of its lines are of passages that were removed."""
_LOCK_SECONDS = 600.0
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile)
"""What reading a damaged file raises; RuntimeError comes from FAISS."""

Marks = npt.NDArray[np.uint64]
Read = Callable[[int], tuple[Rows, Vectors]]
"""Row ids and vectors of all passages with a row id above the one given."""


@dataclass(frozen=True)
class VectorSource:
    """The vectors that an index is built over."""

    state: str
    """Changes with every change of the passages or of the encoder."""
    encoder: str
    """Changes with the encoder, and with it the vectors of passages that stay."""
    marks: Callable[[], tuple[Rows, Marks]]
    """(M,) row ids, ascending, never given twice; and a mark of each passage's text."""
    read: Read


@dataclass(frozen=True)
class _Manifest:
    format: int
    state: str
    encoder: str
    lines: int
    dimension: int
    trained_on: int
    probes: int
    recall: float
    vectors: str
    codes: str
    arrays: str


def open_persistent(directory: Path, corpus: VectorSource) -> IVFIndex:
    """The index of a corpus, from the files in ``directory``; they are brought up to date first.

    Where they cannot be written the index is built in memory: that costs time, not the answer.
    """
    folder = directory / FOLDER
    found = _load(folder, corpus)
    if found is not None:
        return found
    try:
        folder.mkdir(exist_ok=True)
        with exclusive(folder / "lock", _LOCK_SECONDS):
            return _load(folder, corpus) or _updated(folder, corpus)
    except OSError:
        return build_ivf(*corpus.read(-1))


def describe_persistent(directory: Path, state: str) -> str | None:
    """The description of an index that is up to date, without loading its vectors; None where there is none."""
    manifest = _manifest(directory / FOLDER)
    if manifest is None or manifest.state != state:
        return None
    with suppress(*_DAMAGED):
        return _opened(directory / FOLDER, manifest).description
    return None


def _load(folder: Path, corpus: VectorSource) -> IVFIndex | None:
    manifest = _manifest(folder)
    if manifest is None or (manifest.state, manifest.encoder) != (corpus.state, corpus.encoder):
        return None
    return _try_open(folder, manifest)


def _updated(folder: Path, corpus: VectorSource) -> IVFIndex:
    manifest = _manifest(folder)
    old = _try_open(folder, manifest) if manifest and manifest.encoder == corpus.encoder else None
    rows, marks = corpus.marks()
    if manifest is None or old is None:
        return _rebuilt(folder, corpus)
    with np.load(folder / manifest.arrays, allow_pickle=False) as arrays:
        known: Marks = arrays["marks"]
    if not _extensible(old, known, rows, marks):
        return _rebuilt(folder, corpus)
    added, vectors = corpus.read(int(old.rows.max(initial=-1)))
    path = folder / manifest.vectors
    _write_lines(path, vectors, manifest.lines)
    lines = manifest.lines + len(added)
    every = np.concatenate([old.rows, added])
    index = extended(old, np.union1d(rows, added), every, _mapped(path, lines, manifest.dimension))
    _save(folder, index, corpus, manifest.vectors)
    return index


def _rebuilt(folder: Path, corpus: VectorSource) -> IVFIndex:
    rows, vectors = corpus.read(-1)
    name = f"vectors-{_token(corpus)}.f32"
    _write_lines(folder / name, vectors, 0)
    dimension = vectors.shape[1]
    del vectors  # from here on the file is read, which needs no memory of its own
    index = build_ivf(rows, _mapped(folder / name, len(rows), dimension))
    _save(folder, index, corpus, name)
    return index


def _extensible(old: IVFIndex, known: Marks, rows: Rows, marks: Marks) -> bool:
    """Whether new passages came at the end, the others are unchanged, and not too many were added or removed."""
    before = rows <= old.rows.max(initial=-1)
    there = np.isin(old.rows, rows[before])
    same = np.array_equal(old.rows[there], rows[before]) and np.array_equal(known[there], marks[before])
    return same and len(rows) <= GROWTH * old.trained_on and there.sum() >= (1 - REMOVED) * len(there)


def _save(folder: Path, index: IVFIndex, corpus: VectorSource, vectors: str) -> None:
    import faiss

    token = _token(corpus)
    manifest = _Manifest(
        format=FORMAT,
        state=corpus.state,
        encoder=corpus.encoder,
        lines=len(index.rows),
        dimension=index.vectors.shape[1],
        trained_on=index.trained_on,
        probes=index.probes,
        recall=index.recall,
        vectors=vectors,
        codes=f"codes-{token}.faiss",
        arrays=f"cells-{token}.npz",
    )
    faiss.write_index(index.codes, str(folder / manifest.codes))
    np.savez(
        folder / manifest.arrays,
        marks=_marks_of(index.rows, corpus),
        rows=index.rows,
        cell=index.cluster,
        counts=index.stats.counts,
        sums=index.stats.sums,
        centres=index.stats.centres,
        reach=index.stats.radii,
    )
    write_atomically(folder / "index.json", json.dumps(asdict(manifest), indent=1).encode())
    _remove_other_files(folder, manifest)


def _marks_of(rows: Rows, corpus: VectorSource) -> Marks:
    """(N,) of these rows; 0 for those removed."""
    present, marks = corpus.marks()
    place = np.searchsorted(present, rows).clip(max=max(0, len(present) - 1))
    return np.where(present[place] == rows, marks[place], 0).astype(np.uint64)


def _remove_other_files(folder: Path, manifest: _Manifest) -> None:
    named = {manifest.vectors, manifest.codes, manifest.arrays}
    for kind in ("vectors-*.f32", "codes-*.faiss", "cells-*.npz"):
        for each in folder.glob(kind):
            if each.name not in named:
                with suppress(OSError):  # where another process has it open and the system minds
                    each.unlink()


def _manifest(folder: Path) -> _Manifest | None:
    with suppress(OSError, ValueError, TypeError):
        found = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("format") == FORMAT:
            return _checked(_Manifest(**found))
    return None


def _checked(manifest: _Manifest) -> _Manifest:
    """The manifest itself, if every field has its type and files are in the folder; else ValueError."""
    for field in fields(_Manifest):
        value, kind = getattr(manifest, field.name), {"int": int, "float": float, "str": str}[str(field.type)]
        if type(value) is not kind:
            raise ValueError(f"{field.name} is no {field.type}")
    names = (manifest.vectors, manifest.codes, manifest.arrays)
    if any(Path(name).name != name for name in names):
        raise ValueError("files of an index are in its folder")
    return manifest


def _try_open(folder: Path, manifest: _Manifest) -> IVFIndex | None:
    with suppress(*_DAMAGED):
        return _opened(folder, manifest)
    return None


def _opened(folder: Path, manifest: _Manifest) -> IVFIndex:
    import faiss

    codes = faiss.read_index(str(folder / manifest.codes), faiss.IO_FLAG_MMAP_IFC)
    if type(codes) is not faiss.IndexIVFPQFastScan:
        raise ValueError("codes of another kind")
    lists: Any = codes.invlists
    if type(faiss.downcast_InvertedLists(lists)).__name__ != "BlockInvertedLists":
        # Lists on disk are another file, at a path that the file of codes names: added to, it would be written.
        raise ValueError("codes whose lists are not in memory, which may name files of their own")
    with np.load(folder / manifest.arrays, allow_pickle=False) as arrays:
        stats = ClusterStats(arrays["counts"], arrays["sums"], arrays["centres"], arrays["reach"])
        rows, cluster, marks = arrays["rows"], arrays["cell"], arrays["marks"]
    if len(marks) != len(rows) or not 1 <= manifest.probes <= codes.nlist == len(stats.counts):
        raise ValueError("files of different indexes")
    vectors = _mapped(folder / manifest.vectors, manifest.lines, manifest.dimension)
    if not len(rows) == len(cluster) == codes.ntotal == manifest.lines or codes.d != manifest.dimension:
        raise ValueError("files of different indexes")
    return IVFIndex(codes, vectors, rows, cluster, stats, manifest.trained_on, manifest.probes, manifest.recall)


def _mapped(path: Path, lines: int, dimension: int) -> Vectors:
    mapped = np.memmap(path, np.float32, "r", shape=(lines, dimension))
    return mapped.view(np.ndarray)


def _write_lines(path: Path, vectors: Vectors, first: int) -> None:
    """Put lines into the file from line ``first`` on; those before are untouched."""
    with path.open("r+b" if first else "xb") as stream:
        stream.seek(first * vectors.shape[1] * 4)
        stream.write(np.ascontiguousarray(vectors, dtype="<f4").data)
        stream.flush()
        os.fsync(stream.fileno())


def _token(corpus: VectorSource) -> str:
    """For the names of new files: never that of a file that an open index may have mapped."""
    return f"{corpus.state}-{secrets.token_hex(8)}"
