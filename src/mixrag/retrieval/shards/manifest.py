"""Manifest ``*.shards.json``: the shards of a corpus, where they are, and what they were when it was written."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from mixrag.corpus import Part
from mixrag.corpus.store.location import FOLDER, parse_location, without_password
from mixrag.errors import EncoderMismatchError, OutputError, SettingError, StoreError, StoreMissingError
from mixrag.retrieval.shards.exchange import Exchanged, Name, ShardDescription
from mixrag.retrieval.shards.naming import SUFFIX, is_url
from mixrag.utils.atomic import write_atomically
from mixrag.utils.text import printable_name

_MOST_BYTES = 64 * 2**20


class Entry(Exchanged):
    """One shard."""

    number: Annotated[int, Field(ge=1, le=10_000)]
    """i of n."""
    location: Annotated[str, Field(min_length=1, max_length=5000)]
    """A path is below the folder of the manifest, unless it is absolute."""
    shard: ShardDescription

    def located(self, folder: Path) -> str:
        """The location, seen from any folder."""
        if is_url(self.location) or parse_location(self.location).scheme != FOLDER:
            return self.location
        return str(folder / self.location)


class Manifest(Exchanged):
    """The n shards of a corpus, each once."""

    format: Literal[1]
    encoder: Name
    """Fingerprint of the encoder that made all vectors."""
    splitter: Name | None
    of: Annotated[int, Field(ge=1, le=10_000)]
    """n."""
    shards: Annotated[list[Entry], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        numbers = [entry.number for entry in self.shards]
        wanted = range(1, max(self.of, *numbers) + 1)
        if twice := [number for number in wanted if numbers.count(number) > 1]:
            raise ValueError(f"shard {twice[0]} twice")
        if lost := [number for number in wanted if number not in numbers]:
            raise ValueError(f"no shard {lost[0]} of {max(wanted)}")
        for entry in self.shards:
            if entry.shard.part not in (None, f"{entry.number}/{self.of}"):
                raise ValueError(f"shard {entry.number} of {self.of}, which was indexed as {entry.shard.part}")
            if entry.shard.passages and entry.shard.encoder != self.encoder:
                raise ValueError(f"shard {entry.number} of another encoder")
        return self


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        StoreMissingError: there is no such file.
        StoreError: it is not a manifest, misses a shard, or has one twice.
    """
    remedy = f"write it again: mixrag shards manifest {path} STORE..."
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise StoreError(f"a manifest of shards in {path}", "a far larger file", remedy)
        content = path.read_bytes()
    except FileNotFoundError:
        raise StoreMissingError(f"a manifest of shards at {path}", "no such file", "check the path") from None
    except OSError as error:
        raise StoreError(
            f"a manifest of shards at {path}", error.strerror or str(error), "check the path"
        ) from error
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        found = f"{place[:80]}: {first['msg'].removeprefix('Value error, ')[:200]}"
        raise StoreError(f"a manifest of all shards in {path}", printable_name(found), remedy) from None


def write_manifest(path: Path, found: Sequence[tuple[str, ShardDescription]]) -> Manifest:
    """Join shards, as they are now, to one corpus; the manifest is written whole or not at all.

    Args:
        path: of the file, which ends in ``.shards.json``.
        found: location of each shard, and what it says of itself.

    Raises:
        SettingError: another ending, a location with a password, a shard that is missing or there twice, or of
            another splitter.
        EncoderMismatchError: encoders that differ.
        OutputError: the file cannot be written.
    """
    if not path.name.endswith(SUFFIX):
        raise SettingError(
            f"a manifest whose name ends in {SUFFIX}", repr(path.name), f"name it {path.name}{SUFFIX}"
        )
    numbers = _numbers(found)
    _check_equal(found)
    entries = [
        Entry(number=number, location=_written(location, path.absolute().parent), shard=shard)
        for number, (location, shard) in sorted(zip(numbers, found, strict=True), key=lambda each: each[0])
    ]
    some = next((shard for _, shard in found if shard.encoder is not None), found[0][1])
    manifest = Manifest(
        format=1, encoder=some.encoder or "", splitter=some.splitter, of=len(entries), shards=entries
    )
    try:
        write_atomically(path, (json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n").encode())
    except OSError as error:
        raise OutputError(
            "a manifest to be written", f"{path}: {error.strerror or error}", "name another"
        ) from error
    return manifest


def _numbers(found: Sequence[tuple[str, ShardDescription]]) -> list[int]:
    """The number of each shard: that of the part that it was indexed as, else its place."""
    parts = [None if shard.part is None else Part.parse(shard.part) for _, shard in found]
    known = [part for part in parts if part is not None]
    if not known:
        return [*range(1, len(found) + 1)]
    if len(known) < len(parts):
        location = next(location for (location, _), part in zip(found, parts, strict=True) if part is None)
        expected = "shards that were all indexed with --shard, or none of them"
        raise SettingError(expected, f"{without_password(location)} without it", "index it with --shard")
    if len({part.of for part in known}) > 1:
        expected, several = "shards of one division", ", ".join(sorted({f"i/{part.of}" for part in known}))
        raise SettingError(expected, several, "index all of them with the same n in --shard i/n")
    numbers, of = [part.number for part in known], known[0].of
    if twice := next((number for number in numbers if numbers.count(number) > 1), None):
        raise SettingError("each shard once", f"shard {twice}/{of} twice", "name each store once")
    if lost := sorted({*range(1, of + 1)} - {*numbers}):
        raise SettingError(f"all {of} shards", f"no shard {lost[0]}/{of}", "index it, and name its store, too")
    return numbers


def _check_equal(found: Sequence[tuple[str, ShardDescription]]) -> None:
    """Refuse shards whose numbers cannot be put together, or whose passages were made in different ways."""
    filled = [(location, shard) for location, shard in found if shard.passages]
    for location, shard in filled[1:]:
        first, name = filled[0][1], without_password(location)
        if shard.encoder != first.encoder:
            raise EncoderMismatchError(
                f"the encoder of the other shards, {first.encoder_name} ({(first.encoder or '')[:12]})",
                f"{shard.encoder_name} ({(shard.encoder or '')[:12]}) in {name}",
                "index that shard again: mixrag index --re-embed",
            )
        if shard.splitter != first.splitter:
            expected, other = f"the splitter of the other shards, {first.splitter}", f"{shard.splitter} in {name}"
            raise SettingError(expected, other, "index that shard again with the same --splitter and --context")


def _written(location: str, folder: Path) -> str:
    """The location as the manifest has it: a path as seen from its folder."""
    if is_url(location):
        return location
    parsed = parse_location(location)
    if parsed.name != parsed.text:
        remedy = "leave it out, and give it in the environment (PGPASSWORD, AWS_SECRET_ACCESS_KEY)"
        raise SettingError("a location without a password", parsed.name, remedy)
    if parsed.scheme != FOLDER:
        return parsed.text
    try:
        return os.path.relpath(parsed.text, folder)
    except ValueError:  # of another drive
        return parsed.text
