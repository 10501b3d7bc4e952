"""Names of stores in several parts: locations with commas between them, addresses of servers, manifests."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mixrag.errors import SettingError
from mixrag.retrieval.shards.exchange import ShardDescription
from mixrag.retrieval.shards.manifest import SUFFIX, read_manifest
from mixrag.retrieval.shards.remote import is_url

_HOSTS = re.compile(r"\s*postgres(ql)?://[^/?]*")
"""The beginning of an address of a database that has no name yet."""


@dataclass(frozen=True)
class Place:
    """Where a shard is."""

    location: str
    """A location of ``open_store``, or the address of a server."""
    expected: ShardDescription | None = None
    """What a manifest says of it."""


def is_sharded(location: str | os.PathLike[str]) -> bool:
    """Whether a location means shards, or one behind a server; a path object or a folder that exists does not."""
    if not isinstance(location, str) or Path(location).is_dir():
        return False
    return is_url(location) or location.endswith(SUFFIX) or len(_parted(location)) > 1


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
    names = [place.location if is_url(place.location) else os.path.normpath(place.location) for place in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError("each shard once", f"{twice} twice", "name it once")
    return found


def _parts(location: str) -> list[str]:
    parts = [each.strip() for each in _parted(location)]
    if not all(parts):
        raise SettingError("locations with commas between them", repr(location[:100]), "for instance a,b,c")
    return parts


def _parted(location: str) -> list[str]:
    """Split at commas, but for those between the hosts of a database: ``postgresql://HOST,HOST/NAME``."""
    found = list[str]()
    for each in location.split(","):
        if found and _HOSTS.fullmatch(found[-1]):
            found[-1] += f",{each}"
        else:
            found.append(each)
    return found
