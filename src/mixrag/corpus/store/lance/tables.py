"""The Lance tables of a store: read at the versions that a catalogue names, changed only on top of those.

A run that was killed may leave a later version of ``passages`` than the catalogue names. No reader sees it, and
the next writer goes back to the named one. Tables of vectors have no such versions: what was added stays, since
vectors are found by their texts.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.corpus.store.lance.place import Place
from mixrag.errors import StoreCorruptError
from mixrag.utils.arrays import Rows, Vectors
from mixrag.utils.extras import require

PASSAGES = "passages"
RETENTION = timedelta(hours=1)
"""How long a version that another one replaced can still be read: the longest snapshot."""
_EVER = timedelta(days=36500)
_MARGIN = timedelta(minutes=1)
"""For what Lance does before it looks at the clock."""
Mark = tuple[int, float]
"""The version of a table that a catalogue named at some time: ``RETENTION`` later none before it is needed."""
_OPEN = 8
_BLOCK = 8192
_MANY, _MOST = 20, 1000
"""Small parts after which a table is rewritten: where they are a quarter of it, and in any case."""
_REFINED = 20_000
"""Vectors that a query reads at most, but for two of each one asked for."""
_ONE_OF = 200
"""A query reads one of so many vectors at least: where ten of each one asked for are refined, the nearest ones are
missed the more, the more vectors there are."""
INDEXED = 50_000
"""Up to so many vectors are scanned; beyond, they get an index."""
GROWTH = 4
"""It is made anew when there are so many times the vectors that it was trained on: LanceDB adds those that come to
the partitions there are, whose number and centres stay, so that each of them grows."""


def pyarrow() -> Any:
    """The module."""
    return require("pyarrow", "lance", "stores in LanceDB")


class Tables:
    """The tables of one store. Methods raise StoreErrors."""

    def __init__(self, place: Place) -> None:
        # LanceDB logs to stderr what its callers are to hear of as an exception.
        os.environ.setdefault("LANCEDB_LOG", "off")
        lancedb = require("lancedb", "lance", "stores in LanceDB")
        pyarrow()
        self.place = place
        self._mutex = threading.Lock()
        self._open: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lancedb = lancedb

    @cached_property
    def _database(self) -> Any:
        return self._lancedb.connect(self.place.uri, storage_options=dict(self.place.options) or None)

    # --- Reading -----------------------------------------------------------------------------------

    def at(self, name: str, version: int) -> Any:
        """A table at a version; only for reading.

        Raises:
            StoreCorruptError: it is not there.
        """
        with self._mutex:
            if (found := self._open.get((name, version))) is not None:
                self._open.move_to_end((name, version))
                return found
        table = self._opened(name)
        try:
            with self.place.errors():
                table.checkout(version)
        except Exception as error:
            if "no longer exists" in str(error) or "not found" in str(error).lower():
                raise self._corrupt(f"no version {version} of the table {name}") from error
            raise
        with self._mutex:
            self._open[name, version] = table
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return table

    def latest(self, name: str) -> Any:
        """A table as it is now."""
        return self._opened(name)

    def _opened(self, name: str) -> Any:
        with self.place.errors():
            try:
                return self._database.open_table(name)
            except ValueError as error:
                if "not found" not in str(error):
                    raise
                raise self._corrupt(f"no table {name}") from error

    def scan(self, table: Any, columns: Sequence[str], where: str | None = None, **more: bool) -> Iterator[Any]:
        """Batches of these columns, in the order of rows."""
        with self.place.errors():
            query = table.search().select(list(columns))
            if where:
                query = query.where(where)
            if more.get("ids"):
                query = query.with_row_id(True)
            yield from query.to_batches(batch_size=_BLOCK)

    def column(self, table: Any, name: str, **more: bool) -> Any:
        """One column (and the row ids that Lance gives) as a table of pyarrow in one piece."""
        with self.place.errors():
            query = table.search().select([name])
            if more.get("ids"):
                query = query.with_row_id(True)
            return query.to_arrow().combine_chunks()

    def take(self, table: Any, offsets: npt.NDArray[np.int64], columns: Sequence[str]) -> Any:
        """These columns of the rows at distinct ascending offsets (K,)."""
        with self.place.errors():
            return table.take_offsets(offsets.tolist()).select(list(columns)).to_arrow().combine_chunks()

    def take_ids(self, table: Any, ids: npt.NDArray[np.uint64], columns: Sequence[str]) -> Any:
        """These columns, and "_rowid", of the rows that Lance gives these ids, in any order."""
        with self.place.errors():
            query = table.take_row_ids(ids.tolist()).with_row_id().select(list(columns))
            return query.to_arrow().combine_chunks()

    # --- Changing ----------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The tables that are there."""
        with self.place.errors():
            return [str(name) for name in self._database.list_tables(limit=1000).tables]

    def create(self, name: str, data: Any = None, schema: Any = None) -> int:
        """Make a table of these data, in the place of one of this name; its version."""
        with self.place.errors():
            return int(self._database.create_table(name, data, schema=schema, mode="overwrite").version)

    def writable(self, name: str, version: int) -> Any:
        """A table whose latest version is this one, or has its content."""
        table = self._opened(name)
        with self.place.errors():
            if table.version != version:
                table.checkout(version)
                table.restore()
        return table

    def add(self, table: Any, data: Any) -> None:
        """Append rows. Raises StoreBusyError where another process changed the table meanwhile."""
        with self.place.errors():
            before = table.version
            self._check_alone(before, table.add(data).version)

    def delete(self, table: Any, column: str, values: Sequence[int], *, alone: bool = True) -> None:
        """Delete the rows with these values. ``alone`` as in ``add``."""
        for start in range(0, len(values), _BLOCK):
            chosen = ",".join(map(str, values[start : start + _BLOCK]))
            with self.place.errors():
                before = table.version
                after = table.delete(f"{column} IN ({chosen})").version
            if alone:
                self._check_alone(before, after)

    def _check_alone(self, before: int, after: int) -> None:
        if after > before + 1:
            raise self.place.lost()

    def drop(self, name: str) -> None:
        """Delete a table, if it is there."""
        with self.place.errors():
            self._database.drop_table(name, ignore_missing=True)

    def is_untidy(self, table: Any, rewritten: int) -> bool:
        """Whether many small parts are to be rewritten as few.

        Args:
            table: at its latest version.
            rewritten: the version after the last such time.
        """
        if table.version - rewritten < _MANY:
            return False
        with self.place.errors():
            parts = table.stats()["fragment_stats"]
            largest, rows = parts["lengths"]["max"], table.count_rows()
        return bool(table.version - rewritten >= _MOST or rows - largest >= rows / 4 or not rows)

    def tidy(self, table: Any, needed: int) -> None:
        """Rewrite small parts as few, and delete versions that come before this one.

        Lance deletes by age, and looks at the clock only when it has rewritten all.
        """
        with self.place.errors():
            table.optimize(cleanup_older_than=_EVER)
            table.optimize(cleanup_older_than=_age_of_needless(table.list_versions(), needed))

    def index(self, table: Any, trained_on: int) -> int:
        """Give many vectors an index, in the place of one that was trained on far fewer.

        Args:
            table: at its latest version.
            trained_on: how many vectors there were when its index was made; 0: not known, or it has none.

        Returns:
            How many there were when the index that it has now was made; 0 where it has none, or as before.
        """
        with self.place.errors():
            rows = table.count_rows()
            has_one = bool(table.list_indices())
            # Which an older version has made is not noted: at least beyond so many.
            if rows <= INDEXED or (has_one and rows < GROWTH * max(trained_on, INDEXED)):
                return trained_on if has_one else 0
            from lancedb.index import IvfPq

            # Versions that snapshots have open keep theirs.
            table.create_index("vector", config=IvfPq(distance_type="dot"), replace=True)
        return int(rows)

    def near(self, table: Any, question: Vectors, k: int, rows: int) -> Rows:
        """Ids, as Lance gives them, of the rows with the k largest inner products, or most of them.

        Always with refinement: the scores of its index alone are no inner products, nor in their order.

        Args:
            table: of vectors.
            question: its vector.
            k: how many.
            rows: of the table.
        """
        refine = refinement(k, rows)
        with self.place.errors():
            query = table.search(question).distance_type("dot").limit(k).nprobes(50).refine_factor(refine)
            found = query.with_row_id(True).select(["_distance"]).to_arrow()
        return np.asarray(found["_rowid"].to_numpy(), np.int64)

    def _corrupt(self, found: str) -> StoreCorruptError:
        expected = f"a mixrag store in {self.place.location.name}"
        return StoreCorruptError(expected, found, "index again into a new store")


def refinement(k: int, rows: int) -> int:
    """How many vectors are read for each of k that a query asks for.

    >>> refinement(26, 1000), refinement(26, 1_000_000), refinement(144, 1_000_000), refinement(15_000, 1_000_000)
    (10, 192, 34, 2)
    """
    wanted = max(10 * k, rows // _ONE_OF)
    return max(2, min(wanted, _REFINED) // k)


def _age_of_needless(versions: Sequence[dict[str, Any]], needed: int) -> timedelta:
    """An age that no version from this one on has reached.

    The times are those of the clocks of whoever wrote the versions, and say nothing of their order.
    """
    made = [each["timestamp"].timestamp() for each in versions if each["version"] >= needed]
    return timedelta(seconds=max(time.time() - min(made), 0.0)) + _MARGIN


def needless(marks: Sequence[Mark], pinned: int, now: float) -> tuple[int, list[Mark]]:
    """The first version of a table that a snapshot can still need, and the marks that say so the next time.

    Args:
        marks: what this returned before.
        pinned: the version that the catalogue names.
        now: by the clock that all writers have in common.
    """
    marks = [(version, min(since, now)) for version, since in marks]
    if not marks or now - marks[-1][1] >= RETENTION.total_seconds() / 4:
        marks.append((pinned, now))
    old = [version for version, since in marks if now - since >= RETENTION.total_seconds()]
    needed = old[-1] if old else 0
    return needed, [each for each in marks if each[0] >= needed]
