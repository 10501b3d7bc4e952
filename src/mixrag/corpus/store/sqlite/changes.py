"""Changes of the stored passages: each function runs inside one transaction of the caller."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable

from mixrag.corpus.store.matching import scalar_text
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument
from mixrag.corpus.store.records import Removed
from mixrag.corpus.store.sources import MEMORY
from mixrag.corpus.store.sqlite.terms import count_document


def replace_file(db: sqlite3.Connection, file: ParsedFile) -> tuple[int, int]:
    """Put a file's documents in the place of what was stored of it; passages added and removed."""
    db.execute(
        "INSERT INTO files (path, sha256, splitter) VALUES (?, ?, ?) ON CONFLICT (path)"
        " DO UPDATE SET sha256 = excluded.sha256, splitter = excluded.splitter",
        (file.path, file.sha256, file.splitter),
    )
    (file_id,) = db.execute("SELECT id FROM files WHERE path = ?", (file.path,)).fetchone()
    before = _documents_of(db, file_id)
    db.execute("DELETE FROM sources WHERE file_id = ?", (file_id,))
    db.execute("DELETE FROM notices WHERE file_id = ?", (file_id,))
    rows = [(file_id, notice.kind, notice.count, notice.detail) for notice in file.notices]
    db.executemany("INSERT INTO notices VALUES (?, ?, ?, ?)", rows)
    added = 0
    for split in file.documents:
        document_id, new = _put_document(db, split)
        added += new
        db.execute("INSERT INTO sources VALUES (?, ?, ?)", (file_id, split.document.id or "", document_id))
    return added, sum(_drop_if_unused(db, document_id) for document_id in before)


def replace_in_memory(db: sqlite3.Connection, split: SplitDocument) -> tuple[int, int]:
    """Put a document from memory in the place of the one with its id; passages added and removed."""
    db.execute("INSERT OR IGNORE INTO files (path, sha256, splitter) VALUES (?, '', '')", (MEMORY,))
    (file_id,) = db.execute("SELECT id FROM files WHERE path = ?", (MEMORY,)).fetchone()
    source = (file_id, split.document.id)
    before = db.execute("SELECT document_id FROM sources WHERE file_id = ? AND record = ?", source).fetchone()
    document_id, added = _put_document(db, split)
    db.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?)", (*source, document_id))
    return added, _drop_if_unused(db, before[0]) if before else 0


def remove_files(db: sqlite3.Connection, file_ids: list[int]) -> Removed:
    """Remove files, and the documents that no other source has."""
    before = _counts(db)
    documents: set[int] = set()
    for file_id in file_ids:
        documents.update(_documents_of(db, file_id))
        db.execute("DELETE FROM files WHERE id = ?", (file_id,))
    for document_id in documents:
        _drop_if_unused(db, document_id)
    return Removed(*(old - new for old, new in zip(before, _counts(db), strict=True)))


def remove_document(db: sqlite3.Connection, document_id: int) -> tuple[Removed, list[str]]:
    """Remove a document with all of its sources, and the files of which nothing is left; the paths of those."""
    before = _counts(db)
    sql = "SELECT DISTINCT f.id, f.path FROM files f JOIN sources s ON s.file_id = f.id WHERE s.document_id = ?"
    files = dict(db.execute(sql, (document_id,)).fetchall())
    db.execute("DELETE FROM sources WHERE document_id = ?", (document_id,))
    _drop_if_unused(db, document_id)
    left = "SELECT 1 FROM sources WHERE file_id = ?"
    empty = [file for file in files if db.execute(left, (file,)).fetchone() is None]
    db.executemany("DELETE FROM files WHERE id = ?", [(file,) for file in empty])
    removed = Removed(*(old - new for old, new in zip(before, _counts(db), strict=True)))
    return removed, [files[file] for file in empty if files[file] != MEMORY]


def drop_sources(db: sqlite3.Connection, file_ids: list[int], paths: str) -> None:
    """Drop from these files what the files at ``paths`` (a JSON list) hold as well, and files without a source."""
    for file_id in file_ids:
        db.execute(
            "DELETE FROM sources WHERE file_id = ? AND document_id IN (SELECT document_id FROM sources"
            " JOIN files ON files.id = file_id WHERE path IN (SELECT value FROM json_each(?)))",
            (file_id, paths),
        )
        db.execute(
            "DELETE FROM files WHERE id = ? AND NOT EXISTS (SELECT 1 FROM sources WHERE file_id = files.id)",
            (file_id,),
        )


def remove_from_memory(db: sqlite3.Connection, ids: Iterable[str]) -> Removed:
    """Remove documents from memory by their ids, and the contents that no other source has; others are ignored."""
    before = _counts(db)
    file = db.execute("SELECT id FROM files WHERE path = ?", (MEMORY,)).fetchone()
    for id_ in ids if file else ():
        source = (*file, id_)
        stored = db.execute("SELECT document_id FROM sources WHERE file_id = ? AND record = ?", source).fetchone()
        if stored:
            db.execute("DELETE FROM sources WHERE file_id = ? AND record = ?", source)
            _drop_if_unused(db, stored[0])
    db.execute(
        "DELETE FROM files WHERE path = ? AND NOT EXISTS (SELECT 1 FROM sources WHERE file_id = files.id)",
        (MEMORY,),
    )
    return Removed(*(old - new for old, new in zip(before, _counts(db), strict=True)))


def bump_generation(db: sqlite3.Connection) -> None:
    """Count one more change of the passages, by which readers see that what they have read is stale.

    The change is also given a random number: a copy that is changed otherwise counts the same.
    """
    db.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")
    set_meta(db, "change", secrets.token_hex(8))


def set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    """Set one setting of the store."""
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value))


def drop_orphan_vectors(db: sqlite3.Connection) -> None:
    """Delete the current encoder's vectors that no passage uses; those of an encoder to come are left alone."""
    db.execute(
        "DELETE FROM vectors WHERE encoder_id ="
        " (SELECT id FROM encoders WHERE fingerprint = (SELECT value FROM meta WHERE key = 'encoder'))"
        " AND NOT EXISTS (SELECT 1 FROM passages WHERE passages.text_hash = vectors.text_hash)"
    )


def _put_document(db: sqlite3.Connection, split: SplitDocument) -> tuple[int, int]:
    """Row id of the document, and the number of passages that are new."""
    known = db.execute("SELECT id FROM documents WHERE hash = ?", (split.hash,)).fetchone()
    if known:
        return int(known[0]), 0
    metadata = dict(split.document.metadata)
    document_id = db.execute(
        "INSERT INTO documents (hash, title, metadata, front_title) VALUES (?, ?, ?, ?)",
        (split.hash, split.document.title, json.dumps(metadata, ensure_ascii=False), split.front_title),
    ).lastrowid
    assert document_id is not None
    pairs = ((document_id, key, scalar_text(value)) for key, value in metadata.items())
    db.executemany("INSERT INTO metadata VALUES (?, ?, ?)", pairs)
    db.executemany(
        "INSERT INTO passages (document_id, ordinal, start, stop, text, text_hash, page, place, context)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (document_id, ordinal, p.start, p.end, p.text, p.text_hash, p.page, p.place, p.context)
            for ordinal, p in enumerate(split.passages)
        ),
    )
    count_document(db, document_id, split.front_title)
    return document_id, len(split.passages)


def _drop_if_unused(db: sqlite3.Connection, document_id: int) -> int:
    """Delete a document without sources; the number of passages deleted."""
    if db.execute("SELECT 1 FROM sources WHERE document_id = ?", (document_id,)).fetchone():
        return 0
    removed = db.execute("DELETE FROM passages WHERE document_id = ?", (document_id,)).rowcount
    db.execute("DELETE FROM documents WHERE id = ?", (document_id,))
    return removed


def _documents_of(db: sqlite3.Connection, file_id: int) -> set[int]:
    return {id_ for (id_,) in db.execute("SELECT document_id FROM sources WHERE file_id = ?", (file_id,))}


def _counts(db: sqlite3.Connection) -> tuple[int, int, int]:
    tables = ("sources", "documents", "passages")
    sources, documents, passages = (db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables)
    return sources, documents, passages
