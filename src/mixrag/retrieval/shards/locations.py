"""The shards that a location means (``naming.py``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mixrag.corpus.store.location import FOLDER, parse_location, without_password
from mixrag.errors import SettingError
from mixrag.retrieval.shards.exchange import ShardDescription
from mixrag.retrieval.shards.manifest import read_manifest
from mixrag.retrieval.shards.naming import SUFFIX, is_url, parted


@dataclass(frozen=True)
class Place:
    """Where a shard is."""

    location: str
    """A location of ``open_store``, or the address of a server."""
    expected: ShardDescription | None = None
    """What a manifest says of it."""


def places(location: str) -> list[Place]:
    """The shards that a location means.

    Raises:
        SettingError: an empty part, or one that is named twice.
        StoreError: a manifest that cannot be read.
    """
    found = list[Place]()
    for each in _parts(location):
        if each.endswith(SUFFIX) and not is_url(each):
            manifest = read_manifest(Path(each))
            found += [Place(entry.located(Path(each).parent), entry.shard) for entry in manifest.shards]
        else:
            found.append(Place(each))
    names = [_name(place.location) for place in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError("each shard once", f"{twice} twice", "name it once")
    return found


def _name(location: str) -> str:
    """Equal for two spellings of one location; without its password."""
    if is_url(location):
        return location.rstrip("/")
    parsed = parse_location(location)
    if parsed.scheme == FOLDER:
        return os.path.normpath(parsed.text)
    return f"{parsed.scheme}:{parsed.name.partition(':')[2]}"


def _parts(location: str) -> list[str]:
    parts = [each.strip() for each in parted(location)]
    if not all(parts):
        raise SettingError(
            "locations with commas between them", repr(without_password(location)[:100]), "for instance a,b,c"
        )
    return parts
