"""``shard.json`` beside a store: which part of a corpus it was indexed as."""

from __future__ import annotations

import json
from contextlib import suppress

from mixrag.corpus import Part, Store
from mixrag.errors import MixragError, SettingError, StoreError
from mixrag.utils.atomic import write_atomically

FILE = "shard.json"


def part_of(store: Store) -> str | None:
    """The part "i/n" that a store was indexed as; None where it is a whole corpus, or the file is unreadable."""
    with suppress(OSError, ValueError, KeyError, TypeError, MixragError):
        document = json.loads((store.cache_directory / FILE).read_text(encoding="utf-8"))
        return str(Part.parse(document["part"]))
    return None


def claim_part(store: Store, part: Part) -> None:
    """Note that a store is this part; called before files are indexed into it.

    Raises:
        SettingError: it is another part.
        StoreError: the file cannot be written.
    """
    known = part_of(store)
    if known not in (None, str(part)):
        remedy = "name another store, or remove shard.json there to index this part in its place"
        raise SettingError(f"the store of shard {part}", f"that of shard {known} in {store.name}", remedy)
    try:
        write_atomically(store.cache_directory / FILE, json.dumps({"format": 1, "part": str(part)}).encode())
    except OSError as error:
        found = f"{store.cache_directory}: {error.strerror or error}"
        raise StoreError("a folder that can be written to", found, "check permissions there") from error
