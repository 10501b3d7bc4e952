"""What a store in PostgreSQL promises beyond the contract: its index, its errors, its passwords."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

from made_documents import DIMENSION, file, put, split, texts_in, vectors_of
from mixrag.corpus import EncoderRecord, Store, open_store
from mixrag.corpus.store.location import parse_location
from mixrag.corpus.store.opening import has_store
from mixrag.corpus.store.postgres import nearest, schema
from mixrag.corpus.store.postgres.address import address_of
from mixrag.corpus.store.postgres.store import PostgresStore
from mixrag.errors import (
    SettingError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreMissingError,
    StoreVersionError,
)
from mixrag.retrieval.index import open_index
from mixrag.retrieval.index.exact import ExactIndex
from mixrag.retrieval.index.faiss_flat import FLAT_LIMIT
from mixrag.retrieval.index.in_store import InStoreIndex
from postgres_server import PostgresBackend, PostgresServer


@pytest.fixture
def store(postgres_backend: PostgresBackend) -> Iterator[Store]:
    with postgres_backend.open(timeout=5) as store:
        yield store
    postgres_backend.destroy()


def refused(location: str, kind: type[StoreError] = StoreError, *, create: bool = False) -> str:
    """The message of the error of opening; it is one line and shows no password."""
    with pytest.raises(kind) as caught:
        open_store(location, create=create, timeout=1).close()
    message = str(caught.value)
    assert "\n" not in message and "secret" not in message and type(caught.value) is kind
    return message


# locations


def test_a_location_is_database_schema_and_options() -> None:
    found = address_of(parse_location("postgresql://ann:secret@db:5433/acts?sslmode=require&schema=my%20acts"))
    assert found.schema == "my acts" and found.name == (
        "postgresql://ann:***@db:5433/acts?sslmode=require&schema=my%20acts"
    )
    wanted = {"user": "ann", "password": "secret", "host": "db", "port": "5433", "dbname": "acts"}
    assert wanted.items() <= found.parameters.items() and "schema" not in found.parameters
    assert "secret" not in repr(found) and found.cleaned("a secret\n  b") == "a *** b"
    assert address_of(parse_location("postgres://db/acts")).schema == "mixrag"
    assert address_of(parse_location("postgresql://db?connect_timeout=3")).parameters["connect_timeout"] == "3"


@pytest.mark.parametrize("rest", ["?schema=", "?schema=pg_x", f"?schema={'x' * 64}", "?shema=x", ":x?port=y z%"])
def test_other_locations_are_refused(rest: str) -> None:
    with pytest.raises(SettingError) as caught:
        address_of(parse_location(f"postgresql://ann:secret@db/acts{rest}"))
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


# search


def many(store: Store, number: int, dimension: int = DIMENSION) -> None:
    put(store, *(split([f"passage {n} {part}" for part in range(10)], f"n{n}") for n in range(number // 10)))
    with store.writing():
        store.finish("none")


def graphs(store: Store) -> list[str]:
    assert isinstance(store, PostgresStore)
    query = (
        "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = indexrelid"
        " JOIN pg_am a ON a.oid = relam WHERE indrelid = 'vectors'::regclass AND amname = 'hnsw'"
    )
    return [name for (name,) in store.query(query)]


def test_a_graph_is_made_from_where_search_is_approximate() -> None:
    assert nearest.INDEXED_FROM == FLAT_LIMIT


def test_large_stores_are_searched_by_the_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "INDEXED_FROM", 500)
    for module in ("choice", "in_store"):
        monkeypatch.setattr(f"mixrag.retrieval.index.{module}.FLAT_LIMIT", 500)
    many(store, 500)
    assert graphs(store) == [] and isinstance(open_index(store, "auto"), ExactIndex)
    many(store, 2000)
    assert graphs(store) == ["vectors_hnsw_1"]
    index, exact = open_index(store, "auto"), open_index(store, "exact")
    assert isinstance(index, InStoreIndex) and index.description.startswith("pgvector HNSW, refined")
    even = store.rows_where({})[::2]
    found = total = 0
    for number in range(20):
        question = vectors_of([f"question {number}"])[0]
        for allowed in (None, even):
            best, hits = exact.search(question, 10, allowed), index.search(question, 10, allowed)
            assert len(hits.rows) == 10 and (allowed is None or np.isin(hits.rows, allowed).all())
            known = dict(zip(best.rows.tolist(), best.inner_products.tolist(), strict=True))
            products = exact.vectors_of(hits.rows) @ question
            np.testing.assert_allclose(hits.inner_products, products, rtol=1e-6)
            found, total = found + sum(row in known for row in hits.rows.tolist()), total + 10
    assert found >= 0.95 * total
    with open_store(store.location) as again:  # a connection that has not used vectors before
        assert again.nearest(question, 10, even).tolist() == store.nearest(question, 10, even).tolist()


@pytest.mark.parametrize(
    ("options", "megabytes"), [("effective_cache_size%3D6GB", 3072), ("maintenance_work_mem%3D5GB", 5120)]
)
def test_memory_for_the_graph_is_what_the_server_has(store: Store, options: str, megabytes: int) -> None:
    with open_store(f"{store.location}&options=-c%20{options}") as other:
        assert other._memory() == megabytes * 1024


def test_a_graph_that_does_not_fit_into_memory_is_announced(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nearest, "INDEXED_FROM", 100)
    monkeypatch.setattr(nearest.NearestQueries, "_memory", lambda _: 100)
    with caplog.at_level(logging.WARNING, "mixrag"):
        many(store, 1000)
    assert "allow more by maintenance_work_mem" in caplog.text and graphs(store) == ["vectors_hnsw_1"]


@pytest.mark.parametrize(("kind", "share"), [("DiskFull", 1.0), ("OutOfMemory", 0.0)])
def test_without_shared_memory_one_process_makes_the_graph(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: str, share: float
) -> None:
    create, calls = nearest.NearestQueries._create, []

    def failing(self: Any, *arguments: Any, workers: bool) -> None:
        calls.append((arguments[-1], workers))
        if workers:
            raise StoreError("memory", "none", "add some") from getattr(psycopg.errors, kind)()
        create(self, *arguments, workers=workers)

    monkeypatch.setattr(nearest, "INDEXED_FROM", 100)
    monkeypatch.setattr(nearest.NearestQueries, "_create", failing)
    many(store, 1000)
    needed = calls[0][0]
    assert needed > 0 and calls == [(needed, True), (needed * share, False)]
    assert graphs(store) == ["vectors_hnsw_1"]


def test_a_graph_takes_no_more_memory_than_the_server_can_have(store: Store) -> None:
    many(store, 100)
    store._create(1, DIMENSION, "vector", 2**40, workers=True)
    assert graphs(store) == ["vectors_hnsw_1"]


@pytest.mark.parametrize(
    ("wanted", "count", "expected"),
    [(30, 60_000, 100), (30, 1_000_000, 500), (30, 10**8, 1000), (450, 60_000, 900), (10_000, 1, 1000)],
)
def test_a_search_keeps_more_candidates_in_a_larger_graph(wanted: int, count: int, expected: int) -> None:
    assert nearest.candidates(wanted, count) == expected


def test_the_size_of_the_graph_is_known(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "INDEXED_FROM", 100)
    many(store, 1000)
    graph = store._graph()
    assert graph is not None and graph.count == 1000
    many(store, 3000)
    grown = store._graph()
    assert grown is not None and grown.count == 3000


def test_filters_never_leave_too_few(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "INDEXED_FROM", 100)
    many(store, 1000)
    rows, vectors = store.vectors()
    question = vectors_of(["question"])[0]
    far = rows[np.argsort(vectors @ question)][:30]  # the graph finds them last
    found = store.nearest(question, 25, np.sort(far))
    assert len({*found.tolist()}) >= 25 and {*found.tolist()} <= {*far.tolist()}
    assert len(store.nearest(question, 2000)) == 1000 == len({*store.nearest(question, 2000).tolist()})
    assert {*store.nearest(question, 9, rows[:4]).tolist()} == {*rows[:4].tolist()}


def test_equal_texts_are_all_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "INDEXED_FROM", 10)
    put(store, *(split(["the same", f"other {n}"], f"n{n}") for n in range(30)))
    with store.writing():
        store.finish("none")
    found = store.nearest(vectors_of(["the same"])[0], 30)
    assert [p.text for p in store.passages(found)].count("the same") == 30 and len(set(found.tolist())) == len(
        found
    )


def test_the_graph_is_that_of_the_encoder(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "INDEXED_FROM", 100)
    many(store, 200)
    rows = store.rows_where({}).tolist()
    hashes = store.text_hashes(rows)
    with store.writing():
        vectors = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
        store.add_vectors(EncoderRecord("other", "other-1", 6), hashes, vectors)
        store.replace_encoder("other-1", {}, changed=True)
        assert len(store.nearest(vectors[7], 5)) >= 5  # by a scan
        store.finish("none")
    assert graphs(store) == ["vectors_hnsw_2"]
    assert rows[7] in store.nearest(5 * vectors[7], 5)


def test_vectors_without_a_graph_are_scanned(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nearest, "INDEXED_FROM", 100)
    monkeypatch.setattr(nearest, "_TYPES", ((2, "vector"), (3, "halfvec")))
    with caplog.at_level(logging.WARNING):
        many(store, 200)
    assert "vectors of 4 dimensions can have no index" in caplog.text and graphs(store) == []
    assert store.own_search == "a scan of all vectors in PostgreSQL"
    rows, vectors = store.vectors()
    question = vectors_of(["question"])[0]
    best = rows[np.argsort(-(vectors @ question))][:7]
    assert store.nearest(question, 7)[:7].tolist() == best.tolist()
    monkeypatch.setattr(nearest, "_TYPES", ((2, "vector"), (4, "halfvec")))
    many(store, 200)
    assert graphs(store) == ["vectors_hnsw_1"] and store.own_search == "pgvector HNSW of 16-bit numbers"
    assert len({*store.nearest(question, 7).tolist()} & {*best.tolist()}) >= 5


# texts


def test_any_text_comes_back_as_it_was(store: Store) -> None:
    texts = ["a\0b", "\x1a", "\x1a0000", "\U0001f600 é", "x" * 100_000]
    long = "y" * 9000
    put(
        store,
        split(texts, "i\0d", title="t\0t", key="v\0", **{long: long}),
        file(f"/d/{long}", split(["z"], long)),
    )
    assert texts_in(store) == [*texts, "z"]
    assert store.memory_hash("i\0d") and [d.path for d in store.documents()] == [f"/d/{long}#{long}", "i\0d"]
    passage = store.passages(store.rows_where({"key": "v\0"}))[0]
    assert passage.title == "t\0t" and passage.metadata == {"key": "v\0", long: long}
    assert len(store.rows_where({long: long})) == 5 and len(store.rows_where({"title": "t\0t"})) == 5
    assert len(store.rows_where({"document": "i\0d"})) == 5 == len(store.rows_where({"document": "i?d"}))
    assert store.files_below("/d") == [f"/d/{long}"] and store.term_ids(["\ud800", "\0"]) == {}


# bad input


def test_a_server_that_is_not_there() -> None:
    location = "postgresql://ann:secret@127.0.0.1:1/acts"
    assert "ann:***@127.0.0.1:1" in refused(location) and "refused" in refused(location, create=True)
    with pytest.raises(StoreError, match="PGPASSWORD"):
        has_store(location)


def test_wrong_credentials(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = postgres.folder / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all locked scram-sha-256\n{before}")
    postgres.execute("CREATE ROLE locked LOGIN PASSWORD 'secret'")
    postgres.execute("SELECT pg_reload_conf()")
    try:
        good = postgres.url("locked", user="locked:secret")
        assert "password authentication failed" in refused(good.replace("secret", "secretly"))
        assert "locked:***@" in refused(good, StoreMissingError)
        assert "password" in refused(postgres.url("locked", user="locked"))
        monkeypatch.setenv("PGPASSWORD", "secret")
        assert "secret" not in refused(postgres.url("locked", user="locked"), StoreMissingError)
    finally:
        rules.write_text(before)
        postgres.execute("DROP ROLE locked")
        postgres.execute("SELECT pg_reload_conf()")


def test_a_database_that_is_not_there(postgres: PostgresServer) -> None:
    assert 'database "none" does not exist' in refused(postgres.url("x", database="none"), create=True)


def test_where_there_is_no_store_none_is_found_or_made(postgres_backend: PostgresBackend) -> None:
    assert not has_store(postgres_backend.location)
    refused(postgres_backend.location, StoreMissingError)
    assert not has_store(postgres_backend.location)
    postgres_backend.open().close()
    assert has_store(postgres_backend.location)
    postgres_backend.destroy()


@pytest.mark.parametrize(
    "table",
    ["passages (id int)", "meta (id int)", "meta (key text, value text)", "meta (key int, value int)"],
)
def test_tables_of_another_application_are_left_alone(postgres_backend: PostgresBackend, table: str) -> None:
    server, name = postgres_backend.server, postgres_backend.schema
    server.execute(f"CREATE SCHEMA {name}")
    server.execute(f"CREATE TABLE {name}.{table}")
    assert "another application" in refused(postgres_backend.location, StoreCorruptError, create=True)
    tables = server.execute(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{name}'")
    assert tables == [(1,)]
    postgres_backend.destroy()


def test_another_version_or_lost_tables(store: Store, postgres_backend: PostgresBackend) -> None:
    server, name = postgres_backend.server, postgres_backend.schema
    server.execute(f"ALTER TABLE {name}.notices RENAME TO n")
    assert "no table notices" in refused(store.location, StoreCorruptError)
    with pytest.raises(StoreCorruptError, match="notices"), store.writing():
        store.put([file("/d/a", split(["one"]))])
    server.execute(f"ALTER TABLE {name}.n RENAME TO notices")
    server.execute(f"UPDATE {name}.meta SET value = '2' WHERE key = 'version'")
    assert "version 2; upgrade mixrag" in refused(store.location, StoreVersionError)


def test_a_server_or_extension_that_is_too_old(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_EXTENSION", (9, 1))
    assert "pgvector 0.8 or later" in refused(store.location) and "ALTER EXTENSION" in refused(store.location)
    monkeypatch.setattr(schema, "_SERVER", 99)
    assert "found PostgreSQL 1" in refused(store.location)


def test_a_role_without_rights(postgres: PostgresServer) -> None:
    postgres.execute("CREATE ROLE plain LOGIN")
    postgres.execute("CREATE DATABASE bare")
    location = postgres.url("plain", user="plain", database="bare")
    try:
        assert "CREATE EXTENSION vector" in refused(location, create=True)
        postgres.execute("CREATE EXTENSION vector", "bare")
        assert "permission denied" in refused(location, create=True)
        postgres.execute("CREATE SCHEMA plain AUTHORIZATION plain", "bare")
        with open_store(location, create=True) as store:  # its schema is all that it needs
            put(store, split(["one"], "n"))
            assert texts_in(store) == ["one"]
        postgres.execute("DROP EXTENSION vector CASCADE", "bare")
        assert "extension vector" in refused(location)
    finally:
        postgres.execute("DROP DATABASE bare WITH (FORCE)")
        postgres.execute("DROP ROLE plain")


def test_a_role_that_may_only_read_asks_and_does_not_index(postgres_backend: PostgresBackend) -> None:
    server, name = postgres_backend.server, postgres_backend.schema
    reader = server.url(name, user="reader")
    server.execute("CREATE ROLE reader LOGIN")
    try:
        with postgres_backend.open() as store:
            put(store, split(["one"], "n"))
        assert "who may not read" in refused(reader) or "permission denied" in refused(reader)
        server.execute(f"GRANT USAGE ON SCHEMA {name} TO reader")
        server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO reader")
        with open_store(reader, create=True) as store:
            assert texts_in(store) == ["one"] and len(store.rows_where({"document": "n"})) == 1
            assert store.nearest(vectors_of(["one"])[0], 3).tolist() == store.rows_where({}).tolist()
            for change in (lambda: put(store, split(["two"], "n")), lambda: store.delete(["n"])):
                with pytest.raises(StoreError, match="reader, who may only read"):
                    change()
    finally:
        postgres_backend.destroy()
        server.execute("DROP ROLE reader")


def test_a_writer_who_is_not_the_owner_indexes_without_a_graph(
    postgres_backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nearest, "INDEXED_FROM", 100)
    server, name = postgres_backend.server, postgres_backend.schema
    postgres_backend.open().close()
    server.execute("CREATE ROLE writer LOGIN")
    server.execute(f"GRANT USAGE ON SCHEMA {name} TO writer")
    server.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO writer")
    try:
        with open_store(server.url(name, user="writer")) as store:
            many(store, 200)
            assert "only the owner" in caplog.text and graphs(store) == []
            assert len(store.nearest(vectors_of(["question"])[0], 7)) >= 7
        with postgres_backend.reopen() as store:
            many(store, 200)
            assert graphs(store) == ["vectors_hnsw_1"]
    finally:
        postgres_backend.destroy()
        server.execute("DROP ROLE writer")


# lost connections


def test_the_server_is_restarted_in_mid_run(store: Store, postgres_backend: PostgresBackend) -> None:
    put(store, split(["one"], "n"))
    with pytest.raises(StoreError, match="run this again") as caught, store.writing():
        store.put([split(["two"], "m")])
        postgres_backend.server.restart()
        store.put([split(["three"], "o")])
    assert "\n" not in str(caught.value)
    assert store.counts().documents == 2
    put(store, split(["two"], "m"), split(["three"], "o"))
    assert texts_in(store) == ["one", "two", "three"]


def test_a_stopped_server_is_named(store: Store, postgres_backend: PostgresBackend) -> None:
    def look() -> None:
        with pytest.raises(StoreError, match="connection to postgresql://") as caught:
            store.counts()
        assert "\n" not in str(caught.value)

    postgres_backend.server.restart(while_stopped=look)
    assert store.counts().documents == 0


def test_a_writer_without_its_connection_writes_nothing_more(
    store: Store, postgres_backend: PostgresBackend
) -> None:
    with (
        postgres_backend.reopen(timeout=5) as other,
        pytest.raises(StoreError, match="connection"),
        store.writing(),
    ):
        postgres_backend.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        )
        put(other, split(["other"], "n"))  # the lock is free
        store.put([split(["mine"], "n")])
    assert texts_in(store) == ["other"]


def test_one_thread_does_not_take_the_lock_twice(store: Store) -> None:
    with store.writing(), pytest.raises(StoreBusyError):
        store.delete(["n"])
    assert store.delete(["n"]).sources == 0


def test_a_change_without_the_lock_waits_for_it(store: Store, postgres_backend: PostgresBackend) -> None:
    with postgres_backend.reopen(timeout=0.1) as other, store.writing(), pytest.raises(StoreBusyError):
        other.put([split(["one"], "n")])
    store.put([split([], "n")])
    assert store.counts().documents == 1


def test_words_and_documents_are_those_of_one_state(
    store: Store, postgres_backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixrag.corpus.store.sql._PASSAGES", 1)
    monkeypatch.setattr("mixrag.corpus.store.sql._DOCUMENTS", 1)
    put(store, split(["first"], "n"), split(["second"], "m"))
    passages, documents = store.words(), store.by_document()
    with postgres_backend.reopen() as other:
        for number, found in enumerate((passages, documents)):
            next(found)
            put(other, split([f"new {number}"], "m"))
            assert len(list(found)) == 1
    assert texts_in(store) == ["first", "new 1"]
    assert [[each.text for each in found] for found in store.by_document()] == [["first"], ["new 1"]]


def test_no_password_in_the_title_of_a_process_or_what_the_database_shows(store: Store) -> None:
    assert isinstance(store, PostgresStore)
    shown = store.query("SELECT application_name, query FROM pg_stat_activity WHERE application_name = 'mixrag'")
    assert shown and all("secret" not in str(each) for each in shown)


def test_psycopg_is_not_imported_for_other_stores() -> None:
    code = "import mixrag.corpus, mixrag.corpus.store.opening, sys; assert 'psycopg' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
