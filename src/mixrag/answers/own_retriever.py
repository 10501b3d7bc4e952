"""From a location to a store, and from a store to what retrieves from it: one store, or shards."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from mixrag.config.command_settings import StoreConfig
from mixrag.corpus import Store, open_store
from mixrag.errors import SettingError
from mixrag.generator.remote.client import Key
from mixrag.retrieval.encoders import CompleteEncoder
from mixrag.retrieval.index import IndexChoice
from mixrag.retrieval.sharded_retriever import ShardedRetriever
from mixrag.retrieval.shards.naming import is_sharded
from mixrag.retrieval.shards.store import ShardedStore, as_sharded
from mixrag.retrieval.snapshot_retriever import SnapshotRetriever

KEY_OPTION = "--shard-key-env"


def opened_store(config: StoreConfig, *, create: bool) -> Store:
    """The store of a location, or its shards, which have what reading needs of a store.

    Raises:
        SettingError: shards that are to be created.
        MixragError: as ``open_store`` and ``ShardedRetriever.connect``.
    """
    if not is_sharded(location := config.store):
        return open_store(location, create=create)
    if create:
        remedy = "index each shard: mixrag index PATH --shard i/n --store STORE"
        raise SettingError("one store, to change it", "a store in shards", remedy)
    key = Key.of_environment(config.shard_key_env, KEY_OPTION)
    return cast(Store, ShardedStore.open(str(location), key=key, seconds=config.shard_seconds))


def own_retriever(
    store: Store, encoder: Callable[[], CompleteEncoder], kind: Callable[[], IndexChoice]
) -> SnapshotRetriever | ShardedRetriever:
    """What retrieves from a store; shards are asked what they are.

    ``encoder`` and ``kind`` are called at each use.

    Raises:
        EncoderMismatchError: shards of different encoders.
        ShardMissingError: no shard answers.
    """
    if (sharded := as_sharded(store)) is None:
        return SnapshotRetriever(store, encoder, kind)
    sharded.index_kind = kind
    found = ShardedRetriever(sharded.shards, encoder, sharded.seconds, sharded.expected)
    sharded.descriptions, sharded.current = found.known, found.current
    try:
        found.connect()
    except BaseException:
        sharded.close()
        raise
    return found
