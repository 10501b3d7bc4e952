"""The IVF index as files next to the store: built once, appended to, mapped; complete at any instant.

``index/index.json`` names the other files and is replaced last. Vectors are in one file of D float32 a line, which
grows at its end: lines beyond the number in ``index.json`` are of an update that was cut off, and the next one
writes over them. Codes, about a tenth of the vectors, and statistics of the clusters are written again each time.
Updates take turns; a reader meanwhile has the old files. Removed passages lose their lines when the index is
trained again.

Nothing in these files is trusted: what is damaged, or of something else, is built again from the store.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.corpus.store.locks import awaited
from mixrag.errors import StoreError
from mixrag.retrieval.index.cluster_stats import Clusters, ClusterStats
from mixrag.retrieval.index.ivf import IVFIndex, build_ivf, extended
from mixrag.utils.arrays import Rows, Vectors
from mixrag.utils.atomic import write_atomically
from mixrag.utils.memory import available_memory

FOLDER = "index"
FORMAT = 2
GROWTH = 2.0
"""An index is trained again when the corpus has grown to so many times what it was trained on."""
REMOVED = 0.2
"""And when this share of its lines are of passages that were removed."""
_IN_MEMORY = 1.25
"""Memory that building takes, over the vectors' own: codes, statistics and a sample of the vectors."""
_MANIFEST_BYTES = 2**16
"""More is no manifest."""
_SAMPLE = 16
"""Lines that are compared with the store when an index is opened."""
_DAMAGED = (Exception,)
"""What reading a damaged file raises: of numpy, zipfile, json and FAISS, according to where the damage is."""
_logger = logging.getLogger("mixrag.retrieval")

Marks = npt.NDArray[np.uint64]
_BLOCK = 65_536
"""Vectors in memory at a time, while their file is written."""


@dataclass(frozen=True)
class VectorSource:
    """The vectors that an index is built over."""

    state: str
    """Changes with every change of the passages or of the encoder."""
    encoder: str
    """Changes with the encoder, and with it the vectors of passages that stay."""
    marks: Callable[[], tuple[Rows, Marks]]
    """(M,) row ids, ascending, never given twice; and a mark of each passage's text."""
    vectors_of: Callable[[Rows], Vectors]
    """Vectors (N, D) of rows (N,)."""


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
    checksum: int
    """CRC-32 of codes and arrays."""


def open_persistent(directory: Path, corpus: VectorSource) -> IVFIndex:
    """The index of a corpus, from the files in ``directory``; they are brought up to date first.

    While another process does that, this waits. Where the files cannot be written the index is built in memory,
    and a line is logged: that costs time, not the answer.

    Raises:
        StoreError: the files cannot be written, and there is too little memory to build the index there.
    """
    folder = directory / FOLDER
    found = _load(folder, corpus)
    if found is not None:
        return found
    try:
        folder.mkdir(exist_ok=True)
        with awaited(folder / "lock", lambda: _logger.warning(f"waiting for a process that builds {folder}")):
            return _load(folder, corpus) or _updated(folder, corpus)
    except OSError as error:
        return _built_in_memory(folder, corpus, " ".join(str(error).split()))


def _built_in_memory(folder: Path, corpus: VectorSource, reason: str) -> IVFIndex:
    """The index without files; ``reason`` says why there are none."""
    rows, _ = corpus.marks()
    dimension = corpus.vectors_of(rows[:1]).shape[1]
    needed, free = int(_IN_MEMORY * 4 * len(rows) * dimension), available_memory()
    if free is not None and needed > free:
        expected = f"an index of {len(rows)} passages in {folder}, or {needed / 1e9:.1f} GB of memory for it"
        found = f"{reason}, and {free / 1e9:.1f} GB"
        raise StoreError(expected, found, "make room on that disk, and let mixrag write there")
    _logger.warning(f"the index cannot be stored and is built at every start: {reason}; see to {folder}")
    vectors = np.empty((len(rows), dimension), np.float32)
    for start in range(0, len(rows), _BLOCK):  # a store that reads all at once has them twice meanwhile
        vectors[start : start + _BLOCK] = corpus.vectors_of(rows[start : start + _BLOCK])
    return build_ivf(rows, vectors)


def discard(directory: Path) -> None:
    """Let the index be built again when it is next opened."""
    with suppress(OSError):
        (directory / FOLDER / "index.json").unlink(missing_ok=True)


def is_current(directory: Path, corpus: VectorSource) -> bool:
    """Whether the files say that they are of this state of the corpus; they are not looked into."""
    manifest = _manifest(directory / FOLDER)
    return manifest is not None and (manifest.state, manifest.encoder) == (corpus.state, corpus.encoder)


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
    if manifest is None or not is_current(folder.parent, corpus):
        return None
    found = _try_open(folder, manifest)
    return found if found is not None and _is_of(found, corpus) else None


def _is_of(index: IVFIndex, corpus: VectorSource) -> bool:
    """Whether some lines, at random, have the vectors of the store."""
    present = index.rows[index.rows >= 0]
    if not len(present):
        return True
    places = np.random.default_rng().integers(0, len(present), _SAMPLE)
    some = present[[0, *places, -1]]
    with suppress(*_DAMAGED):
        return np.array_equal(index.vectors_of(some), corpus.vectors_of(some))
    return False


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
    staying = np.where(np.isin(old.rows, rows), old.rows, -1)
    if not _is_of(replace(old, rows=staying), corpus):
        return _rebuilt(folder, corpus)
    added = rows[rows > old.rows.max(initial=-1)]
    path = folder / manifest.vectors
    _write_lines(path, corpus, added, manifest.lines)
    lines = manifest.lines + len(added)
    every = np.concatenate([old.rows, added])
    index = extended(old, rows, every, _mapped(path, lines, manifest.dimension))
    _save(folder, index, corpus, manifest.vectors)
    return index


def _rebuilt(folder: Path, corpus: VectorSource) -> IVFIndex:
    rows, _ = corpus.marks()
    name = f"vectors-{_token(corpus)}.f32"
    with _removed_on_failure(folder / name):
        dimension = _write_lines(folder / name, corpus, rows, 0)
        index = build_ivf(rows, _mapped(folder / name, len(rows), dimension))
        _save(folder, index, corpus, name)
    return index


@contextmanager
def _removed_on_failure(*paths: Path) -> Iterator[None]:
    """Remove new files where an error leaves them incomplete; what is cut off goes with the next update."""
    try:
        yield
    except Exception:
        for path in paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def _extensible(old: IVFIndex, known: Marks, rows: Rows, marks: Marks) -> bool:
    """Whether new passages came at the end, the others are unchanged, and not too many were added or removed."""
    before = rows <= old.rows.max(initial=-1)
    there = np.isin(old.rows, rows[before])
    same = np.array_equal(old.rows[there], rows[before]) and np.array_equal(known[there], marks[before])
    return same and len(rows) <= GROWTH * old.trained_on and there.sum() >= (1 - REMOVED) * len(there)


def _save(folder: Path, index: IVFIndex, corpus: VectorSource, vectors: str) -> None:
    token = _token(corpus)
    codes, arrays = folder / f"codes-{token}.faiss", folder / f"cells-{token}.npz"
    with _removed_on_failure(codes, arrays):
        _write_codes(index.codes, codes)
        np.savez(
            arrays,
            marks=_marks_of(index.rows, corpus),
            rows=index.rows,
            cell=index.cluster,
            counts=index.stats.counts,
            sums=index.stats.sums,
            centres=index.stats.centres,
            reach=index.stats.radii,
        )
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
            codes=codes.name,
            arrays=arrays.name,
            checksum=_checksum(codes, arrays),
        )
        write_atomically(folder / "index.json", json.dumps(asdict(manifest), indent=1).encode())
    _remove_other_files(folder, manifest)


def _write_codes(codes: Any, path: Path) -> None:
    """Write a FAISS index; an OSError says what went wrong."""
    import faiss

    try:
        faiss.write_index(codes, str(path))
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2] or "FAISS could not write it"
        raise OSError(f"{path}: {reason}") from error


def _checksum(*paths: Path) -> int:
    found = 0
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(2**20):
                found = zlib.crc32(block, found)
    return found


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
    with suppress(*_DAMAGED):
        with (folder / "index.json").open("rb") as stream:
            content = stream.read(_MANIFEST_BYTES + 1)
        found = json.loads(content) if len(content) <= _MANIFEST_BYTES else None
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
    if min(manifest.lines, manifest.dimension, manifest.trained_on, manifest.probes) < 1:
        raise ValueError("an index of nothing")
    if not 0.0 <= manifest.recall <= 1.0:
        raise ValueError("recall is a share")
    return manifest


def _try_open(folder: Path, manifest: _Manifest) -> IVFIndex | None:
    with suppress(*_DAMAGED):
        return _opened(folder, manifest)
    return None


def _opened(folder: Path, manifest: _Manifest) -> IVFIndex:
    import faiss

    if _checksum(folder / manifest.codes, folder / manifest.arrays) != manifest.checksum:
        raise ValueError("codes or arrays that were not written with this manifest")
    codes = faiss.read_index(str(folder / manifest.codes), faiss.IO_FLAG_MMAP_IFC)
    if type(codes) is not faiss.IndexIVFPQFastScan:
        raise ValueError("codes of another kind")
    lists: Any = codes.invlists
    if type(faiss.downcast_InvertedLists(lists)).__name__ != "BlockInvertedLists":
        # Lists on disk are another file, at a path that the file of codes names: added to, it would be written.
        raise ValueError("codes whose lists are not in memory, which may name files of their own")
    if (codes.ntotal, codes.d) != (manifest.lines, manifest.dimension) or manifest.probes > codes.nlist:
        raise ValueError("files of different indexes")
    with np.load(folder / manifest.arrays, allow_pickle=False) as arrays:
        stats = ClusterStats(arrays["counts"], arrays["sums"], arrays["centres"], arrays["reach"])
        rows, cluster, marks = arrays["rows"], arrays["cell"], arrays["marks"]
    _check_arrays(manifest, codes.nlist, stats, rows, cluster, marks)
    vectors = _mapped(folder / manifest.vectors, manifest.lines, manifest.dimension)
    return IVFIndex(codes, vectors, rows, cluster, stats, manifest.trained_on, manifest.probes, manifest.recall)


def _check_arrays(
    manifest: _Manifest, clusters: int, stats: ClusterStats, rows: Rows, cluster: Clusters, marks: Marks
) -> None:
    """ValueError where an array is not of this index."""
    lines, cells = (manifest.lines,), (clusters, manifest.dimension)
    expected: list[tuple[npt.NDArray[Any], str, tuple[int, ...]]] = [
        (rows, "i", lines),
        (cluster, "i", lines),
        (marks, "u", lines),
        (stats.counts, "i", (clusters,)),
        (stats.sums, "f", cells),
        (stats.centres, "f", cells),
        (stats.radii, "f", (clusters,)),
    ]
    if any(each.dtype.kind != kind or each.shape != shape for each, kind, shape in expected):
        raise ValueError("arrays of another shape")
    present = rows[rows >= 0]
    counted = np.bincount(cluster[rows >= 0], minlength=clusters) if cluster.min() >= 0 else None
    if counted is None or not np.array_equal(counted, stats.counts) or (np.diff(present) <= 0).any():
        raise ValueError("rows or clusters of another index")
    if not all(math.isfinite(float(np.abs(each).sum())) for each in (stats.sums, stats.centres, stats.radii)):
        raise ValueError("statistics that are no numbers")


def _mapped(path: Path, lines: int, dimension: int) -> Vectors:
    mapped = np.memmap(path, np.float32, "r", shape=(lines, dimension))
    return mapped.view(np.ndarray)


def _write_lines(path: Path, corpus: VectorSource, rows: Rows, first: int) -> int:
    """Put the vectors of rows into the file from line ``first`` on, leaving those before; their dimension."""
    dimension = 0
    with path.open("r+b" if first else "xb") as stream:
        for start in range(0, len(rows), _BLOCK):
            vectors = np.ascontiguousarray(corpus.vectors_of(rows[start : start + _BLOCK]), dtype="<f4")
            dimension = vectors.shape[1]
            stream.seek((first + start) * dimension * 4)
            stream.write(vectors.data)
        stream.flush()
        os.fsync(stream.fileno())
    return dimension


def _token(corpus: VectorSource) -> str:
    """For the names of new files: never that of a file that an open index may have mapped."""
    return f"{corpus.state}-{secrets.token_hex(8)}"
