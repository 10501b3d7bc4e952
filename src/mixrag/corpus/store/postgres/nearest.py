"""Search in the database: pgvector's graph (HNSW) over the vectors of one encoder, made when there are many."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import psycopg
from psycopg import sql

from mixrag.corpus.store.postgres.changes import OF_ENCODER
from mixrag.corpus.store.postgres.connections import Connections, Database
from mixrag.corpus.store.sql import SqlStore
from mixrag.errors import StoreBusyError, StoreError
from mixrag.utils.arrays import Rows, Vectors

INDEXED_FROM = 50_000
"""With more vectors a graph is made; up to so many, mixrag computes all products itself (``index.FLAT_LIMIT``)."""
_TYPES = ((2000, "vector"), (4000, "halfvec"))
"""The most dimensions of each type that a graph can have."""
_MEMORY = 2**20
"""Kilobytes that making a graph may use in any case."""
_MOST_CANDIDATES = 1000
"""That pgvector takes."""
_logger = logging.getLogger("mixrag.corpus")


@dataclass(frozen=True, slots=True)
class _Graph:
    encoder: int
    """Its number in the database."""
    type: str
    """Of the vectors in the graph, with their dimension."""
    count: int
    """About how many there are."""


class NearestQueries(SqlStore):
    """Approximate search, and what it needs; ``PostgresStore`` supplies the connections."""

    _connections: Connections

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Database]:
        """One transaction."""

    def nearest(self, question: Vectors, k: int, allowed: Rows | None = None) -> Rows:
        """See ``Store.nearest``; a scan where there is no graph, few are allowed, or the graph gave too few."""
        wanted = k + max(k // 2, 20)
        enough = k if allowed is None else min(k, len(allowed))
        with self.snapshot():
            graph = self._graph() if allowed is None or len(allowed) > INDEXED_FROM // 10 else None
            found = [] if graph is None else self._by_graph(graph, question, wanted, allowed)
            if len(found) < enough:
                found = self._by_scan(question, wanted, allowed)
        return np.array(found, np.int64)

    def index_vectors(self) -> None:
        """Make the graph of the store's encoder if it has many vectors and none, and delete those of others."""
        encoders = self.query(
            "SELECT id, dimension, (SELECT count(*) FROM vectors WHERE encoder_id = encoders.id) FROM encoders"
            " WHERE fingerprint = (SELECT value FROM meta WHERE key = 'encoder')"
        )
        owned = self.query(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('vectors')"
        ) == [(True,)]
        for encoder, dimension, count in encoders:
            indexed = self._indexed(encoder)
            if indexed is not None and owned and count > 1.1 * indexed:
                with self.transaction() as db:
                    db.execute("ANALYZE vectors")  # searches look further in a larger graph
            if count <= INDEXED_FROM or indexed is not None:
                continue
            if not owned:
                _logger.warning("only the owner of %s can make its index: until then searches read all", self.name)
                return
            self._make_graph(encoder, dimension, count)
        if owned:
            self._drop_other_graphs([_graph_name(encoder) for encoder, _, _ in encoders])

    def _graph(self) -> _Graph | None:
        """The graph of the store's encoder; None where there is none."""
        found = self.query(
            "SELECT id, dimension FROM encoders WHERE fingerprint = (SELECT value FROM meta WHERE key = 'encoder')"
        )
        if not found or (type_ := graph_type(found[0][1])) is None:
            return None
        encoder, dimension = found[0]
        count = self._indexed(encoder)
        return None if count is None else _Graph(encoder, f"{type_}({dimension})", count)

    def _indexed(self, encoder: int) -> int | None:
        """About how many vectors the graph of an encoder has; None: there is no graph."""
        query = (
            "SELECT greatest(c.reltuples, 0)::bigint FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indisvalid AND i.indexrelid = to_regclass(%s)"
        )
        found = self.query(query, (_graph_name(encoder),))
        return int(found[0][0]) if found else None

    def _by_graph(self, graph: _Graph, question: Vectors, wanted: int, allowed: Rows | None) -> list[int]:
        chosen, rows = _allowed(allowed)
        query = (
            f"SELECT p.id FROM vectors v JOIN passages p ON p.text_hash = v.text_hash"
            f" WHERE v.encoder_id = {graph.encoder}{chosen}"
            f" ORDER BY v.vector::{graph.type} <#> %s::vector::{graph.type} LIMIT {wanted}"
        )
        settings = {
            "hnsw.iterative_scan": "relaxed_order",
            "hnsw.ef_search": str(candidates(wanted, graph.count)),
            "hnsw.max_scan_tuples": "200000",
            "hnsw.scan_mem_multiplier": "20",
            # Sorting all distances would be a scan.
            "enable_sort": "off",
            "enable_seqscan": "off",
        }
        with self._connections.use() as db, db.transaction(force_rollback=True):  # the settings go with it
            for name, value in settings.items():
                db.execute("SELECT set_config(%s, %s, true)", (name, value))
            return [row for (row,) in db.execute(query.encode(), (*rows, question), prepare=False)]

    def _by_scan(self, question: Vectors, wanted: int, allowed: Rows | None) -> list[int]:
        chosen, rows = _allowed(allowed)
        query = (
            f"SELECT p.id FROM passages p JOIN vectors v ON v.{OF_ENCODER} AND v.text_hash = p.text_hash"
            f" WHERE true{chosen} ORDER BY v.vector <#> %s::vector, p.id LIMIT {wanted}"
        )
        return [row for (row,) in self.query(query, (*rows, question))]

    def _make_graph(self, encoder: int, dimension: int, count: int) -> None:
        type_ = graph_type(dimension)
        if type_ is None:
            _logger.warning(
                "vectors of %d dimensions can have no index in %s (pgvector: up to 4000): searches read all",
                dimension,
                self.name,
            )
            return
        _logger.info("making the index (HNSW) of %d vectors in %s", count, self.name)
        began = time.monotonic()
        needed = count * (4 * dimension + 700) // 1024  # vectors, and links to neighbours
        allowed = self._memory()
        if needed > allowed:
            _logger.warning(
                "the index in %s needs %.1f GB of memory and may use %.1f: what is beyond takes several times"
                " as long; allow more by maintenance_work_mem, in the location or on the server",
                self.name,
                needed / 2**20,
                allowed / 2**20,
            )
        memory = min(needed * 5 // 4, allowed)  # parallel workers reserve all of it at once
        try:
            self._create(encoder, dimension, type_, memory, workers=True)
        except StoreError as error:
            full = isinstance(error.__cause__, psycopg.errors.DiskFull)
            if not full and not isinstance(error.__cause__, psycopg.errors.OutOfMemory):
                raise
            # Parallel workers need shared memory, of which containers often have 64 MB.
            self._create(encoder, dimension, type_, memory if full else 0, workers=False)
        with self.transaction() as db:
            db.execute("ANALYZE passages, vectors")
        _logger.info("made the index (HNSW) in %.0f s", time.monotonic() - began)

    def _memory(self) -> int:
        """Kilobytes that making a graph may use: half of what the server was told to have for caches."""
        ((caches, allowed),) = self.query(
            "SELECT pg_size_bytes(current_setting('effective_cache_size')),"
            " pg_size_bytes(current_setting('maintenance_work_mem'))"
        )
        return int(max(_MEMORY, caches // 2048, allowed // 1024))

    def _create(self, encoder: int, dimension: int, type_: str, kilobytes: int, *, workers: bool) -> None:
        statement = sql.SQL(
            "CREATE INDEX {} ON vectors USING hnsw ((vector::{}) {}) WHERE encoder_id = {}"
        ).format(
            sql.Identifier(_graph_name(encoder)),
            sql.SQL(f"{type_}({dimension})"),
            sql.SQL(f"{type_}_ip_ops"),
            sql.Literal(encoder),
        )
        with self.transaction() as db:
            if kilobytes:
                query = (
                    "SELECT set_config(name, greatest(least(%s, max_val::bigint), min_val::bigint)::text, true)"
                )
                db.execute(f"{query} FROM pg_settings WHERE name = 'maintenance_work_mem'", (kilobytes,))
            if not workers:
                db.execute("SET LOCAL max_parallel_maintenance_workers = 0")
            db.execute(statement)

    def _drop_other_graphs(self, kept: Sequence[str]) -> None:
        query = (
            "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = to_regclass('vectors') AND amname = 'hnsw'"
        )
        for name in {name for (name,) in self.query(query)} - {*kept}:
            try:
                with self.transaction() as db:
                    # Readers would wait behind it: the next run may find a better moment.
                    db.execute("SET LOCAL lock_timeout = '1s'")
                    db.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
            except StoreBusyError:
                return


def candidates(wanted: int, count: int) -> int:
    """How many candidates a search of the graph keeps (``ef_search``): the more vectors, the more for one recall.

    pgvector alone finds with 100 candidates 0.975 of the ten best of 100,000 vectors and 0.830 of those of a
    million, a store with 500 candidates 0.952 of those (``benchmarks/scale.py``).
    """
    return min(_MOST_CANDIDATES, max(100, 2 * wanted, count // 2000))


def graph_type(dimension: int) -> str | None:
    """The type of pgvector whose graph can have so many dimensions; None: no type."""
    return next((type_ for most, type_ in _TYPES if dimension <= most), None)


def _graph_name(encoder: int) -> str:
    return f"vectors_hnsw_{encoder}"


def _allowed(allowed: Rows | None) -> tuple[str, tuple[list[int], ...]]:
    return ("", ()) if allowed is None else (" AND p.id = ANY(%s::bigint[])", (allowed.tolist(),))
