"""The tables, making them, and checking that a database has what a store needs."""

from __future__ import annotations

import uuid

import psycopg
from psycopg import sql

from mixrag.corpus.store.postgres.address import Address
from mixrag.corpus.store.postgres.connections import Database, find_names
from mixrag.corpus.store.postgres.failures import not_writable
from mixrag.errors import StoreCorruptError, StoreError, StoreMissingError, StoreVersionError

VERSION = 1
_SERVER = 14
_EXTENSION = (0, 8)
"""The first pgvector that goes on searching until a filter has let enough through."""

# Texts of any length are found by digests or by their first characters: entries of a B-tree have a limit.
_TABLES = """
CREATE TABLE meta (key text COLLATE "C" PRIMARY KEY, value text NOT NULL);
CREATE TABLE encoders (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, fingerprint text COLLATE "C" NOT NULL UNIQUE,
    name text NOT NULL, dimension integer NOT NULL);
CREATE TABLE files (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key bytea NOT NULL UNIQUE, path text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL, splitter text COLLATE "C" NOT NULL);
CREATE TABLE documents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, hash text COLLATE "C" NOT NULL UNIQUE,
    title text COLLATE "C" NOT NULL, metadata text NOT NULL, front_title text NOT NULL);
CREATE INDEX documents_by_title ON documents USING hash (title);
CREATE TABLE metadata (
    document_id bigint NOT NULL REFERENCES documents ON DELETE CASCADE, key text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL);
CREATE INDEX metadata_by_document ON metadata (document_id);
CREATE INDEX metadata_by_value ON metadata (left(key, 100), left(value, 100));
CREATE TABLE sources (
    file_id bigint NOT NULL REFERENCES files ON DELETE CASCADE, key bytea NOT NULL,
    record text COLLATE "C" NOT NULL, document_id bigint NOT NULL REFERENCES documents,
    PRIMARY KEY (file_id, key));
CREATE INDEX sources_by_document ON sources (document_id);
CREATE INDEX sources_by_key ON sources (key);
CREATE TABLE passages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, document_id bigint NOT NULL REFERENCES documents,
    ordinal bigint NOT NULL, start bigint NOT NULL, stop bigint NOT NULL, text text NOT NULL,
    text_hash bytea NOT NULL, page bigint, place text NOT NULL, context text NOT NULL, words bytea NOT NULL,
    UNIQUE (document_id, ordinal));
CREATE INDEX passages_by_text_hash ON passages (text_hash);
CREATE INDEX passages_by_page ON passages (page) WHERE page IS NOT NULL;
CREATE TABLE terms (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, term text COLLATE "C" NOT NULL UNIQUE);
CREATE TABLE notices (
    file_id bigint NOT NULL REFERENCES files ON DELETE CASCADE, kind text COLLATE "C" NOT NULL,
    count bigint NOT NULL, detail text NOT NULL);
CREATE INDEX notices_by_file ON notices (file_id);
CREATE TABLE vectors (
    encoder_id integer NOT NULL REFERENCES encoders ON DELETE CASCADE, text_hash bytea NOT NULL,
    vector vector NOT NULL, PRIMARY KEY (encoder_id, text_hash));
"""
_NAMES = frozenset(line.split()[2] for line in _TABLES.splitlines() if line.startswith("CREATE TABLE"))


def has_tables(db: Database, address: Address) -> bool:
    """Whether the schema has a store's first table, whoever made it."""
    return "meta" in _tables(db, address)


def prepare(db: Database, address: Address, *, create: bool) -> None:
    """Make the store where there is none and one is wanted; check it.

    Raises:
        StoreMissingError: there is none, and ``create`` is false.
        StoreVersionError: a newer mixrag wrote it.
        StoreCorruptError: the tables are another application's, or some are missing.
        StoreError: the server or pgvector is too old, or the role lacks a right.
    """
    found = _tables(db, address)
    if "meta" not in found:
        if found:
            raise _corrupt(address, f"a table {min(found)} of another application")
        if not create:
            remedy = f"run: mixrag index PATH --store '{address.name}'"
            raise StoreMissingError(f"a store in {address.name}", "none", remedy)
        _check_server(db, address)
        _create(db, address)
    _check_rights(db, address)
    _check_version(db, address)
    if lost := sorted(_NAMES - _tables(db, address)):
        raise _corrupt(address, f"no table {lost[0]}")
    _check_server(db, address)
    _check_extension(db, address)


def _tables(db: Database, address: Address) -> set[str]:
    query = (
        "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s"
        " AND relname::text = ANY(%s) AND relkind IN ('r', 'p', 'v', 'm', 'f')"
    )
    return {name for (name,) in db.execute(query, (address.schema, sorted(_NAMES)))}


def _create(db: Database, address: Address) -> None:
    """All tables in one transaction: a kill leaves nothing or a whole store."""
    try:
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s)", (address.lock,))
            if "meta" in _tables(db, address):  # another process has come first
                return
            _make_extension(db, address)
            known = db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (address.schema,)).fetchone()
            if not known:
                db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(address.schema)))
            find_names(db, address)
            for statement in _TABLES.split(";\n"):
                if statement.strip():
                    db.execute(statement.encode())
            rows = (
                ("application", "mixrag"),
                ("version", str(VERSION)),
                ("generation", "0"),
                ("id", uuid.uuid4().hex),
            )
            db.cursor().executemany("INSERT INTO meta VALUES (%s, %s)", rows)
    except psycopg.errors.InsufficientPrivilege as error:
        raise not_writable(address, address.cleaned(error)) from error


def _make_extension(db: Database, address: Address) -> None:
    """Create pgvector in the database where it is not, outside of the store's schema."""
    if _extension(db):
        return
    try:
        with db.transaction():
            db.execute("SET LOCAL search_path TO DEFAULT")
            db.execute("CREATE EXTENSION vector")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName) as error:
        expected = f"the extension vector in the database of {address.name}"
        remedy = "let an administrator of the database run: CREATE EXTENSION vector"
        raise StoreError(expected, address.cleaned(error.diag.message_primary), remedy) from error
    except psycopg.errors.FeatureNotSupported as error:
        raise _no_extension(address, address.cleaned(error.diag.message_primary)) from error
    find_names(db, address)


def _check_server(db: Database, address: Address) -> None:
    version = db.info.server_version
    if version < 10000 * _SERVER:
        found = f"PostgreSQL {version // 10000}"
        raise StoreError(f"PostgreSQL {_SERVER} or later for {address.name}", found, "upgrade the server")
    if (encoding := db.info.parameter_status("server_encoding")) != "UTF8":
        remedy = "make another one: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        raise StoreError(f"a database in UTF8 for {address.name}", f"one in {encoding}", remedy)


def _check_extension(db: Database, address: Address) -> None:
    version = _extension(db)
    if version is None:
        raise _no_extension(address, "none")
    if tuple(int(part) for part in version.split(".")[:2]) < _EXTENSION:
        remedy = "upgrade it on the server, then let an administrator run: ALTER EXTENSION vector UPDATE"
        raise StoreError(f"pgvector 0.8 or later for {address.name}", f"pgvector {version}", remedy)


def _extension(db: Database) -> str | None:
    found = db.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    return str(found[0]) if found else None


def _no_extension(address: Address, found: str) -> StoreError:
    remedy = "install pgvector 0.8 or later on the server, then run there: CREATE EXTENSION vector"
    return StoreError(f"the extension vector in the database of {address.name}", found, remedy)


def _check_rights(db: Database, address: Address) -> None:
    query = "SELECT has_schema_privilege(%s, 'USAGE') AND has_table_privilege(%s, 'SELECT'), current_user::text"
    table = sql.Identifier(address.schema, "meta").as_string(db)
    readable, user = db.execute(query, (address.schema, table)).fetchone() or (False, "")
    if not readable:
        raise not_writable(address, f"{user}, who may not read its tables")


def _check_version(db: Database, address: Address) -> None:
    try:
        query = "SELECT key, value FROM meta WHERE key IN ('application', 'version')"
        found: dict[str, str] = dict(db.execute(query).fetchall())
        version = int(found["version"]) if found.get("application") == "mixrag" else 0
    except (psycopg.errors.UndefinedColumn, psycopg.errors.DataError, psycopg.errors.UndefinedFunction, KeyError):
        version = 0
    except ValueError:
        version = 0
    if version < 1:
        raise _corrupt(address, "a table meta of another application")
    if version > VERSION:
        expected = f"a store of version {VERSION} or older in {address.name}"
        raise StoreVersionError(expected, f"version {version}", "upgrade mixrag")


def _corrupt(address: Address, found: str) -> StoreCorruptError:
    return StoreCorruptError(f"a mixrag store in {address.name}", found, "name another schema: ?schema=NAME")
