"""Records of questions in a file: written as they come, so that a run that was cut off can be continued.

Each line is one JSON object: the system, a fingerprint of pair and settings, and the record itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from mixrag.answers.pipeline import Pipeline
from mixrag.config.engine_choice import AUTO, TORCH, engine_of, named_engine
from mixrag.errors import MixragError
from mixrag.generator.devices import resolve_dtype
from mixrag.inference.decoders import recorded
from mixrag.pairs.pairs import Pair, digest
from mixrag.retrieval.index import index_name
from mixrag.utils.progress import Progress, ProgressEvent, guarded
from mixrag.utils.text import strict_json

T = TypeVar("T")
RECORDS = "answers.jsonl"
"""The file of records in a folder of a report, and of a training run."""


def each_pair(
    rag: Pipeline,
    pairs: Sequence[Pair],
    changes: Mapping[str, Any],
    compute: Callable[[Sequence[Pair]], list[T]],
    record: Callable[[dict[str, Any]], T],
    out: Path | None,
    system: str,
    progress: Progress | None,
    at_once: int = 1,
) -> list[T]:
    """What ``compute`` makes of every pair, in their order; ``record`` reads from ``out`` what was there.

    ``compute`` gets at most ``at_once`` pairs, all with the same filter; ``progress`` is called after each time.
    ``out``, ``system`` and ``progress`` as in ``score_pairs``.

    Raises:
        MixragError: ``out`` is another kind of file, or as ``compute``.
    """
    report = guarded(progress)
    keys = [(system, fingerprint(rag, pair, changes)) for pair in pairs]
    done = {} if out is None else resume(out, record)
    missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in done}
    if len(missing) < len(pairs):
        report(ProgressEvent("answering", sum(key in done for key in keys), len(keys), system))
    for batch in _batches(missing, at_once):
        with rag.every_shard():
            found = compute([missing[key] for key in batch])
        for key, each in zip(batch, found, strict=True):
            done[key] = each
            if out is not None:
                append(out, key, each)
        report(ProgressEvent("answering", sum(key in done for key in keys), len(keys), system))
    return [done[key] for key in keys]


def _batches(pairs: Mapping[tuple[str, str], Pair], size: int) -> Iterator[list[tuple[str, str]]]:
    """The keys in their order, at most ``size`` at a time, those of different filters apart."""
    for _, group in groupby(pairs, key=lambda key: pairs[key].where):
        alike = list(group)
        yield from (alike[first : first + size] for first in range(0, len(alike), size))


def identity(rag: Pipeline) -> str:
    """A digest of models, store and index: answers of others are not taken for those of this system.

    An engine of auto is known for certain once it has loaded the model, which it does here.
    """
    if named_engine(rag.models) == AUTO and engine_of(rag.models) != TORCH:
        _ = rag.generator
    encoder = rag.store.encoder
    content = [rag.models_digest, resolve_dtype(rag.models.dtype, rag.models.device)]
    engine = engine_of(rag.models)
    content += [] if engine == TORCH else [engine]
    content += [index_name(rag.index_kind), rag.store.digest()]
    content.append(encoder.fingerprint if encoder else "none")
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def with_filter(rag: Pipeline, pair: Pair, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes to the settings with the filter of a pair added to theirs, and answers of the kind of its own.

    Gold answers are short: what an extract says is not compared with them.
    """
    where = {**changes.get("where", rag.settings.where), **pair.where}
    kind = changes.get("kind", rag.settings.kind)
    return {**changes, "where": where, "kind": "span" if kind == "auto" else kind}


def fingerprint(rag: Pipeline, pair: Pair, changes: Mapping[str, Any]) -> str:
    """What a record is a function of, besides the models and the store."""
    settings = recorded(replace(rag.settings, **with_filter(rag, pair, changes)))
    content = json.dumps([digest([pair]), settings], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


_FIRST = b'{"system": '
"""How every line of a file of records begins."""


def append(out: Path, key: tuple[str, str], record: Any) -> None:
    """Add a line with a record (a dataclass) to a file, under its system and fingerprint; infinities are null.

    Raises:
        MixragError: it cannot be written.
    """
    line = strict_json({"system": key[0], "pair": key[1], **asdict(record)})
    try:
        with out.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    except OSError as error:
        found = f"{out}: {error.strerror or error}"
        raise MixragError("scores to be written", found, "correct it and run again: records stay") from error


def resume(out: Path, record: Callable[[dict[str, Any]], T]) -> dict[tuple[str, str], T]:
    """Records of a file by system and fingerprint; a last line without its end is taken off the file.

    Raises:
        MixragError: ``out`` is another kind of file, or ``record`` makes nothing of a line.
    """
    if not out.exists():
        return {}
    done, whole, torn = _read(out, record)
    if torn:
        with out.open("r+b") as stream:
            stream.truncate(whole)
    return done


def stored(path: Path, record: Callable[[dict[str, Any]], T]) -> dict[tuple[str, str], T]:
    """Records of a file by system and fingerprint; the file stays as it is.

    Raises:
        MixragError: there is no such file, it is of another kind, or ``record`` makes nothing of a line.
    """
    return _read(path, record)[0]


def _read(path: Path, record: Callable[[dict[str, Any]], T]) -> tuple[dict[tuple[str, str], T], int, bool]:
    """The records, the bytes of whole lines, and whether a line without its end follows them."""
    if not path.is_file():
        raise _foreign(path, "no file")
    *lines, torn = path.read_bytes().split(b"\n")
    done = dict(_parse(path, number, line, record) for number, line in enumerate(lines, 1))
    if torn[: len(_FIRST)] != _FIRST[: len(torn)]:
        raise _foreign(path, f"something else on line {len(lines) + 1}")
    return done, sum(len(line) + 1 for line in lines), bool(torn)


def _parse(
    out: Path, number: int, line: bytes, record: Callable[[dict[str, Any]], T]
) -> tuple[tuple[str, str], T]:
    try:
        row = json.loads(line)
        return (row["system"], row["pair"]), record(row)
    except (ValueError, TypeError, KeyError) as error:
        raise _foreign(out, f"something else on line {number}") from error


def _foreign(out: Path, found: str) -> MixragError:
    return MixragError("a file of scores, or none yet", f"{out}: {found}", "choose another name")
