"""Which names mean a store in shards: locations with commas between them, addresses of servers, manifests."""

from __future__ import annotations

import os
import re
from pathlib import Path

SUFFIX = ".shards.json"
"""Ends the name of a manifest."""
_HOSTS = re.compile(r"\s*postgres(ql)?://[^/?]*")
"""The beginning of an address of a database that has no name yet."""


def is_url(location: str) -> bool:
    """Whether a location is that of a remote shard."""
    return location.startswith(("http://", "https://"))


def is_sharded(location: str | os.PathLike[str]) -> bool:
    """Whether a location means shards, or one behind a server; a path object or a folder that exists does not."""
    if not isinstance(location, str) or os.path.isdir(location):  # noqa: PTH112 - False for what is no path
        return False
    return is_url(location) or location.endswith(SUFFIX) or len(parted(location)) > 1


def parted(location: str) -> list[str]:
    """Split at commas, but for those between the hosts of a database: ``postgresql://HOST,HOST/NAME``.

    >>> parted("acts,postgresql://a,b/cases")
    ['acts', 'postgresql://a,b/cases']
    """
    found = list[str]()
    for each in location.split(","):
        if found and _HOSTS.fullmatch(found[-1]):
            found[-1] += f",{each}"
        else:
            found.append(each)
    return found


def short_name(location: str) -> str:
    """A name for a store in shards: that of its manifest, or "shards"."""
    return Path(location).name.removesuffix(SUFFIX) if location.endswith(SUFFIX) else "shards"
