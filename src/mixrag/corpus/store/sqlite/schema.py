"""The database file: tables, opening, and what SQLite's errors mean to the user."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixrag.corpus.store.sqlite import terms
from mixrag.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreMissingError,
    StoreVersionError,
)

FILE_NAME = "mixrag.sqlite"
APPLICATION_ID = 0x6D785247
VERSION = 2
_CHECKED_BYTES = 64 * 2**20  # a full structure check of a larger file would delay every opening

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE encoders (
    id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, name TEXT NOT NULL, dimension INTEGER NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, splitter TEXT NOT NULL);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, title TEXT NOT NULL, metadata TEXT NOT NULL,
    front_title TEXT NOT NULL DEFAULT '');
CREATE TABLE metadata (
    document_id INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (document_id, key)) WITHOUT ROWID;
CREATE INDEX metadata_by_value ON metadata (key, value);
CREATE TABLE sources (
    file_id INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, record TEXT NOT NULL,
    document_id INTEGER NOT NULL REFERENCES documents, PRIMARY KEY (file_id, record)) WITHOUT ROWID;
CREATE INDEX sources_by_document ON sources (document_id);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document_id INTEGER NOT NULL REFERENCES documents,
    ordinal INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
    text TEXT NOT NULL, text_hash BLOB NOT NULL, page INTEGER, place TEXT NOT NULL DEFAULT '',
    context TEXT NOT NULL DEFAULT '', words BLOB, UNIQUE (document_id, ordinal));
CREATE TABLE terms (id INTEGER PRIMARY KEY, term TEXT NOT NULL UNIQUE);
CREATE TABLE notices (
    file_id INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    kind TEXT NOT NULL, count INTEGER NOT NULL, detail TEXT NOT NULL);
CREATE INDEX notices_by_file ON notices (file_id);
CREATE INDEX passages_by_text_hash ON passages (text_hash);
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY, encoder_id INTEGER NOT NULL REFERENCES encoders ON DELETE CASCADE,
    text_hash BLOB NOT NULL, vector BLOB NOT NULL, UNIQUE (encoder_id, text_hash));
INSERT INTO meta VALUES ('generation', '0');
"""
# From each version to the next; words are counted after that.
_UPGRADES = {
    1: """
ALTER TABLE passages ADD COLUMN page INTEGER;
ALTER TABLE passages ADD COLUMN place TEXT NOT NULL DEFAULT '';
ALTER TABLE passages ADD COLUMN context TEXT NOT NULL DEFAULT '';
ALTER TABLE passages ADD COLUMN words BLOB;
CREATE TABLE terms (id INTEGER PRIMARY KEY, term TEXT NOT NULL UNIQUE);
CREATE TABLE notices (
    file_id INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    kind TEXT NOT NULL, count INTEGER NOT NULL, detail TEXT NOT NULL);
CREATE INDEX notices_by_file ON notices (file_id);
ALTER TABLE documents ADD COLUMN front_title TEXT NOT NULL DEFAULT '';
UPDATE documents SET front_title = title;
DROP TABLE lexicon;
DROP VIEW passage_words;
"""
}
_TABLES = frozenset(
    {
        "meta",
        "encoders",
        "files",
        "documents",
        "metadata",
        "sources",
        "passages",
        "vectors",
        "terms",
        "notices",
    }
)


def open_database(directory: Path, *, create: bool, timeout: float) -> sqlite3.Connection:
    """Connection to the store in ``directory``, checked; transactions are begun by hand.

    Raises:
        StoreMissingError: there is none, and ``create`` is false.
        StoreVersionError: a newer mixrag wrote it.
        StoreCorruptError: the file is not a mixrag store, or is damaged.
        StoreBusyError: another process did not release the lock for ``timeout`` seconds.
    """
    path = directory / FILE_NAME
    if create:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            found = error.strerror or type(error).__name__
            raise StoreError(f"a folder {directory}", found, "name another folder with --store") from error
    elif not has_database(directory):
        raise _missing(directory)
    with meaningful_errors(directory):
        connection = connect(path, timeout, create=create)
        try:
            _check(connection, directory, create)
        except BaseException:
            connection.close()
            raise
    return connection


def has_database(directory: Path) -> bool:
    """Whether there is a database file in the folder.

    Raises:
        StoreError: the folder cannot be looked into.
    """
    try:
        return stat.S_ISREG((directory / FILE_NAME).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise StoreError(f"a store in {directory}", found, "check the permissions of this folder") from error


@contextmanager
def meaningful_errors(directory: Path) -> Iterator[None]:
    """Turn SQLite's errors into StoreErrors that name the store."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        raise _translated(error, directory) from error


def _translated(error: sqlite3.Error, directory: Path) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return busy(directory)
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}:
        return _corrupt(directory, str(error))
    if code == sqlite3.SQLITE_FULL:
        remedy = "check free space there, then run this again"
        return StoreFullError(f"space for the store in {directory}", str(error), remedy)
    return StoreError(f"a usable store in {directory}", str(error), "check free space and permissions there")


def busy(directory: Path) -> StoreBusyError:
    """Error of a store that another process or thread is writing to."""
    remedy = "wait until the other mixrag process has ended, then run this again"
    return StoreBusyError(f"the write lock of {directory}", "another process holding it", remedy)


def connect(path: Path, timeout: float, *, create: bool = False) -> sqlite3.Connection:
    """A connection to the database file, which is not looked into; transactions are begun by hand."""
    target = path.absolute().as_uri()
    mode = "?mode=rwc" if create else "?mode=rw"
    if path.exists() and not os.access(path.parent, os.W_OK):
        # WAL needs a writable folder; an immutable file (read-only media) can be read without one.
        mode = "?mode=ro" if path.with_name(f"{path.name}-wal").exists() else "?immutable=1"
    connection = sqlite3.connect(
        target + mode, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _check(connection: sqlite3.Connection, directory: Path, create: bool) -> None:
    if _is_blank(connection):
        if not create:
            raise _missing(directory)
        _initialise(connection)
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise _corrupt(directory, "a database of another application")
    if (version := _pragma(connection, "user_version")) > VERSION:
        raise StoreVersionError(f"a store of version {VERSION} or older", f"version {version}", "upgrade mixrag")
    if version < VERSION:
        _upgrade(connection, directory)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if lost := sorted(_TABLES - names):
        raise _corrupt(directory, f"no table {lost[0]}")
    if (directory / FILE_NAME).stat().st_size <= _CHECKED_BYTES:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _corrupt(directory, " ".join(verdict.split()))


def _is_blank(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return tables == 0 and _pragma(connection, "application_id") == 0


def _initialise(connection: sqlite3.Connection) -> None:
    """Create all tables in one transaction: a kill leaves a blank file or a whole store."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_blank(connection):  # another process may have come first
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('change', ?)", (secrets.token_hex(8),))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _upgrade(connection: sqlite3.Connection, directory: Path) -> None:
    """Bring an older store to this version in one transaction; nothing that it holds changes."""
    if not os.access(directory, os.W_OK):
        found = f"one of version {_pragma(connection, 'user_version')} in a folder that cannot be written to"
        remedy = "copy it to a folder that can"
        raise StoreVersionError(f"a store of version {VERSION} in {directory}", found, remedy)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for version in range(_pragma(connection, "user_version"), VERSION):
            for statement in _UPGRADES[version].split(";\n"):
                connection.execute(statement)
        terms.count_words(connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _missing(directory: Path) -> StoreMissingError:
    return StoreMissingError(f"a store in {directory}", "none", f"run: mixrag index PATH --store {directory}")


def _corrupt(directory: Path, found: str) -> StoreCorruptError:
    remedy = f"move {directory / FILE_NAME} away and index again"
    return StoreCorruptError(f"a mixrag store in {directory}", found, remedy)
