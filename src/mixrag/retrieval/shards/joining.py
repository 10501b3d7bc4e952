"""From stores to a manifest: each is asked what it is now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mixrag.errors import SettingError
from mixrag.generator.remote.client import Key
from mixrag.retrieval.shards.exchange import ShardDescription, StatisticsRequest
from mixrag.retrieval.shards.manifest import Manifest, write_manifest
from mixrag.retrieval.shards.naming import SUFFIX, is_url
from mixrag.retrieval.shards.store import open_shard

SECONDS = 600.0
"""A large store needs some time to count its words."""


def join(out: Path, locations: Sequence[str], key: Key | None = None) -> Manifest:
    """Write the manifest of some shards.

    Args:
        out: of the file.
        locations: of each shard.
        key: of those behind servers.

    Raises:
        SettingError, EncoderMismatchError, OutputError: as ``write_manifest``.
        MixragError: a store that cannot be opened, or a server that does not answer.
    """
    if manifest := next((each for each in locations if each.endswith(SUFFIX) and not is_url(each)), None):
        raise SettingError("stores", f"the manifest {manifest}", "name the stores that it has")
    found = list[tuple[str, ShardDescription]]()
    for location in locations:
        with closing(open_shard(location, key, SECONDS)) as shard:
            found.append((location, shard.statistics(StatisticsRequest(measured=True)).shard))
    return write_manifest(out, found)
