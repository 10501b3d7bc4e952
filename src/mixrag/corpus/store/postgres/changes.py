"""Changes of the stored passages: each function runs inside one transaction of the caller."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from mixrag.corpus.store.matching import scalar_text
from mixrag.corpus.store.postgres.connections import Database
from mixrag.corpus.store.postgres.terms import numbered_words
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument
from mixrag.corpus.store.records import Removed
from mixrag.corpus.store.sources import MEMORY

_Source = tuple[str, str, str]
"""Path, record, hash of the document."""


def key_of(text: str) -> bytes:
    """What a path or record is found by: an index cannot have texts of any length."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def put(db: Database, given: Iterable[ParsedFile | SplitDocument]) -> tuple[int, int]:
    """Put files and documents from memory in the place of what was stored of them; passages added and removed."""
    # The later of two files of one path, or documents of one id, counts.
    latest = {_place(source): source for source in given}
    files = [each for each in latest.values() if isinstance(each, ParsedFile)]
    memory = [each for each in latest.values() if isinstance(each, SplitDocument)]
    ids = _put_files(db, files, bool(memory))
    before = _drop_sources(db, [ids[file.path] for file in files], ids.get(MEMORY), memory)
    sources: list[_Source] = []
    splits: dict[str, SplitDocument] = {}
    for source in latest.values():
        path = source.path if isinstance(source, ParsedFile) else MEMORY
        for split in source.documents if isinstance(source, ParsedFile) else (source,):
            splits.setdefault(split.hash, split)
            sources.append((path, split.document.id or "", split.hash))
    documents, added = _put_documents(db, splits)
    columns = zip(*((ids[path], key_of(rec), rec, documents[hash_]) for path, rec, hash_ in sources), strict=True)
    if sources:
        arrays = "unnest(%s::bigint[], %s::bytea[], %s::text[], %s::bigint[])"
        insert = f"INSERT INTO sources (file_id, key, record, document_id) SELECT * FROM {arrays}"
        db.execute(insert, [list(column) for column in columns])
    notices = [(ids[file.path], each.kind, each.count, each.detail) for file in files for each in file.notices]
    if notices:
        db.cursor().executemany("INSERT INTO notices VALUES (%s, %s, %s, %s)", notices)
    _, hashes = drop_unused(db, before)
    return added, len(hashes)


def remove_files(db: Database, files: Sequence[int]) -> tuple[Removed, list[bytes]]:
    """Remove files, and the documents that no other source has; with the hashes of texts of removed passages."""
    query = "DELETE FROM sources WHERE file_id = ANY(%s::bigint[]) RETURNING document_id"
    removed = _removed(db, query, files)
    db.execute("DELETE FROM files WHERE id = ANY(%s::bigint[])", (list(files),))
    return removed


def remove_document(db: Database, document: int) -> tuple[tuple[Removed, list[bytes]], list[str]]:
    """Remove a document with all of its sources, and the files of which nothing is left; the paths of those."""
    query = "SELECT DISTINCT file_id FROM sources WHERE document_id = %s"
    files = [file for (file,) in db.execute(query, (document,))]
    removed = _removed(
        db, "DELETE FROM sources WHERE document_id = ANY(%s::bigint[]) RETURNING document_id", [document]
    )
    return removed, [path for path in drop_empty_files(db, files) if path != MEMORY]


def remove_from_memory(db: Database, ids: Collection[str]) -> tuple[Removed, list[bytes]]:
    """Remove documents from memory by their ids, and the contents that no other source has; others are ignored."""
    file = [id_ for (id_,) in db.execute("SELECT id FROM files WHERE key = %s", (key_of(MEMORY),))]
    query = (
        f"DELETE FROM sources WHERE file_id = {file[0] if file else -1} AND key = ANY(%s) RETURNING document_id"
    )
    removed = _removed(db, query, [key_of(each) for each in ids])
    drop_empty_files(db, file)
    return removed


def drop_shared(db: Database, files: Sequence[int], others: Sequence[int]) -> None:
    """Drop from these files the documents that the others have as well, and then those without a document."""
    query = (
        "DELETE FROM sources WHERE file_id = ANY(%s::bigint[])"
        " AND document_id IN (SELECT document_id FROM sources WHERE file_id = ANY(%s::bigint[]))"
    )
    db.execute(query, (list(files), list(others)))
    drop_empty_files(db, files)


def drop_empty_files(db: Database, files: Sequence[int]) -> list[str]:
    """Delete those of the files that have no source any more; their paths."""
    query = (
        "DELETE FROM files WHERE id = ANY(%s::bigint[])"
        " AND NOT EXISTS (SELECT 1 FROM sources WHERE file_id = files.id) RETURNING path"
    )
    return [path for (path,) in db.execute(query, (list(files),))]


def drop_unused(db: Database, documents: Collection[int]) -> tuple[int, list[bytes]]:
    """Delete those of the documents that have no source; how many, and the hashes of their passages' texts."""
    query = (
        "SELECT d FROM unnest(%s::bigint[]) d WHERE EXISTS (SELECT 1 FROM documents WHERE id = d)"
        " AND NOT EXISTS (SELECT 1 FROM sources WHERE document_id = d)"
    )
    unused = [id_ for (id_,) in db.execute(query, (list(documents),))]
    if not unused:
        return 0, []
    passages = "DELETE FROM passages WHERE document_id = ANY(%s::bigint[]) RETURNING text_hash"
    hashes = [hash_ for (hash_,) in db.execute(passages, (unused,))]
    db.execute("DELETE FROM documents WHERE id = ANY(%s::bigint[])", (unused,))
    return len(unused), hashes


def bump_generation(db: Database) -> None:
    """Count one more change of the passages, by which readers see that what they have read is stale.

    The change is also given a random number: a copy that is changed otherwise counts the same.
    """
    db.execute("UPDATE meta SET value = (value::bigint + 1)::text WHERE key = 'generation'")
    set_meta(db, "change", secrets.token_hex(8))


def set_meta(db: Database, key: str, value: str) -> None:
    """Set one setting of the store."""
    db.execute(
        "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
    )


def drop_orphan_vectors(db: Database, hashes: Collection[bytes] | None = None) -> None:
    """Delete the current encoder's vectors that no passage uses (of texts with these hashes); those of an encoder
    to come are left alone.
    """
    chosen = "" if hashes is None else "AND text_hash = ANY(%s)"
    db.execute(
        f"DELETE FROM vectors WHERE {OF_ENCODER} {chosen}"
        " AND NOT EXISTS (SELECT 1 FROM passages WHERE passages.text_hash = vectors.text_hash)",
        () if hashes is None else (list(hashes),),
    )


OF_ENCODER = (
    "encoder_id = (SELECT id FROM encoders WHERE fingerprint = (SELECT value FROM meta WHERE key = 'encoder'))"
)
"""Vectors of the store's encoder."""


def _place(source: ParsedFile | SplitDocument) -> tuple[str, str | None]:
    return (source.path, None) if isinstance(source, ParsedFile) else (MEMORY, source.document.id)


def _put_files(db: Database, files: Sequence[ParsedFile], memory: bool) -> dict[str, int]:
    """Row ids by path."""
    rows = [(key_of(each.path), each.path, each.sha256, each.splitter) for each in files]
    if memory:
        rows.append((key_of(MEMORY), MEMORY, "", ""))
    if not rows:
        return {}
    query = (
        "INSERT INTO files (key, path, sha256, splitter)"
        " SELECT * FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::text[]) ON CONFLICT (key)"
        " DO UPDATE SET sha256 = excluded.sha256, splitter = excluded.splitter RETURNING path, id"
    )
    return dict(db.execute(query, [list(column) for column in zip(*rows, strict=True)]).fetchall())


def _drop_sources(
    db: Database, files: Sequence[int], memory: int | None, splits: Sequence[SplitDocument]
) -> set[int]:
    """Drop what is stored of files, and of documents from memory; row ids of the documents they had."""
    before: set[int] = set()
    if files:
        db.execute("DELETE FROM notices WHERE file_id = ANY(%s::bigint[])", (list(files),))
        query = "DELETE FROM sources WHERE file_id = ANY(%s::bigint[]) RETURNING document_id"
        before.update(id_ for (id_,) in db.execute(query, (list(files),)))
    if splits:
        keys = [key_of(each.document.id or "") for each in splits]
        query = "DELETE FROM sources WHERE file_id = %s AND key = ANY(%s) RETURNING document_id"
        before.update(id_ for (id_,) in db.execute(query, (memory, keys)))
    return before


def _put_documents(db: Database, splits: dict[str, SplitDocument]) -> tuple[dict[str, int], int]:
    """Row ids of documents by their hashes, and the number of passages that are new."""
    known: dict[str, int] = dict(
        db.execute("SELECT hash, id FROM documents WHERE hash = ANY(%s)", (list(splits),)).fetchall()
    )
    new = [split for hash_, split in splits.items() if hash_ not in known]
    if not new:
        return known, 0
    rows = [
        (
            each.hash,
            each.document.title,
            json.dumps(dict(each.document.metadata), ensure_ascii=False),
            each.front_title,
        )
        for each in new
    ]
    query = (
        "INSERT INTO documents (hash, title, metadata, front_title)"
        " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) RETURNING hash, id"
    )
    known |= dict(db.execute(query, [list(column) for column in zip(*rows, strict=True)]).fetchall())
    pairs = [(known[e.hash], key, scalar_text(value)) for e in new for key, value in e.document.metadata.items()]
    _copy(db, "metadata (document_id, key, value)", "int8 text text", pairs)
    words = numbered_words(db, new)
    passages = (
        (known[split.hash], ordinal, p.start, p.end, p.text, p.text_hash, p.page, p.place, p.context, next(words))
        for split in new
        for ordinal, p in enumerate(split.passages)
    )
    columns = "passages (document_id, ordinal, start, stop, text, text_hash, page, place, context, words)"
    added = _copy(db, columns, "int8 int8 int8 int8 text bytea int8 text text bytea", passages)
    return known, added


def _copy(db: Database, columns: str, types: str, rows: Iterable[Sequence[Any]]) -> int:
    """Write rows as one stream, in their order; how many."""
    count = 0
    statement = f"COPY {columns} FROM STDIN WITH (FORMAT BINARY)"
    with db.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types(types.split())
        for row in rows:
            copy.write_row(row)
            count += 1
    return count


def _removed(db: Database, deletion: str, given: Sequence[int] | Sequence[bytes]) -> tuple[Removed, list[bytes]]:
    """Delete sources, and what they alone had."""
    documents = [id_ for (id_,) in db.execute(deletion.encode(), (list(given),))]
    unused, hashes = drop_unused(db, set(documents))
    return Removed(len(documents), unused, len(hashes)), hashes
