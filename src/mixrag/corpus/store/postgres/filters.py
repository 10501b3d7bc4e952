"""Filters: ``matching`` says which values, names and titles are meant, SQL which passages have them.

So both agree by construction, and what is read is each distinct value once, not each document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mixrag.config.filters import Condition, Equal, spellings
from mixrag.corpus.store.matching import Described, documents_meeting, equal_texts
from mixrag.corpus.store.postgres.changes import key_of
from mixrag.corpus.store.sources import MEMORY
from mixrag.corpus.store.sql import SqlStore
from mixrag.utils.arrays import Rows

_Sql = tuple[str, tuple[Any, ...]]
"""A piece of SQL and its values."""
_NO_TITLE = "\ud800"
"""No filter can ask for it."""
_KEY, _VALUE = (
    f"left({name}, 100) = ANY(ARRAY(SELECT left(x, 100) FROM unnest(%s::text[]) x)) AND {name} = ANY(%s)"
    for name in ("key", "value")
)
"""Whether a key or value is one of some texts; the index has the first 100 characters of both."""


class FilterQueries(SqlStore):
    """Filters over a store's passages."""

    def rows_meeting(self, filter_: Mapping[str, Sequence[Condition]]) -> Rows:
        """See ``Store.rows_meeting``."""
        with self.snapshot():
            parts = [self._passages_with(key, found) for key, found in filter_.items()]
            chosen = " AND ".join(text for text, _ in parts)
            values = [value for _, each in parts for value in each]
            rows = self.query(f"SELECT id FROM passages {f'WHERE {chosen}' if chosen else ''} ORDER BY id", values)
        return np.fromiter((row for (row,) in rows), np.int64, len(rows))

    def _passages_with(self, key: str, found: Sequence[Condition]) -> _Sql:
        """One key: any of the conditions, for what is called by that name or for metadata of that name."""
        parts = [self._metadata(key, found)]
        texts = [each.text for each in found if isinstance(each, Equal)]
        if key in ("document", "file"):
            parts += self._named(key, found, texts)
        elif key == "title":
            parts += self._titled(found, texts)
        documents = " UNION ALL ".join(text for text, _ in parts)
        values = tuple(value for _, each in parts for value in each)
        if key != "page":
            return f"document_id IN ({documents})", values
        return f"(page = ANY(%s::bigint[]) OR document_id IN ({documents}))", (self._pages(found), *values)

    def _metadata(self, key: str, found: Sequence[Condition]) -> _Sql:
        """Documents with a value under the key that meets a condition, or is a list that has such a member."""
        keys = spellings(key)
        query = f"SELECT DISTINCT value FROM metadata WHERE {_KEY}"
        parameters: list[Any] = [keys, keys]
        if all(isinstance(each, Equal) for each in found):
            texts = [text for each in found if isinstance(each, Equal) for text in equal_texts(each.text)]
            query += f" AND ({_VALUE} OR starts_with(value, '['))"
            parameters += [texts, texts]
        values = [value for (value,) in self.query(query, parameters)]
        tests = documents_meeting(
            {key: found}, {n: Described(_NO_TITLE, {key: value}, ()) for n, value in enumerate(values)}
        )
        fitting = [value for n, value in enumerate(values) if n in tests and tests[n](None)]
        return f"SELECT document_id FROM metadata WHERE {_KEY} AND {_VALUE}", (keys, keys, fitting, fitting)

    def _pages(self, found: Sequence[Condition]) -> list[int]:
        """The pages that there are and that meet a condition."""
        pages = [page for (page,) in self.query("SELECT DISTINCT page FROM passages WHERE page IS NOT NULL")]
        (test,) = documents_meeting({"page": found}, {0: Described(_NO_TITLE, {}, ())}).values()
        return [page for page in pages if test(page)]

    def _titled(self, found: Sequence[Condition], texts: Sequence[str]) -> Iterable[_Sql]:
        """Documents with such a title of their own, or one that is shown of the first source."""
        wanted = [each for text in texts for each in spellings(text)]
        untitled = self.query(
            "SELECT DISTINCT ON (s.document_id) s.document_id, f.path, s.record FROM documents d"
            " JOIN sources s ON s.document_id = d.id JOIN files f ON f.id = s.file_id WHERE d.title = ''"
            " ORDER BY s.document_id, f.path, s.record"
        )
        shown = documents_meeting({"title": found}, {id_: Described("", {}, [(p, r)]) for id_, p, r in untitled})
        yield "SELECT id FROM documents WHERE title = ANY(%s)", (wanted,)
        yield "SELECT unnest(%s::bigint[])", (list(shown),)

    def _named(self, key: str, found: Sequence[Condition], texts: Sequence[str]) -> Iterable[_Sql]:
        """Documents of the files, records and documents from memory that a name means."""
        files = self.query("SELECT id, path, '' FROM files WHERE key <> %s", (key_of(MEMORY),))
        named = {text[match.end() :] for text in texts for match in re.finditer("#", text)}
        records = {each for text in (*named, *texts) for each in spellings(text) if each}
        query = "SELECT s.file_id, f.path, s.record FROM sources s JOIN files f ON f.id = s.file_id WHERE"
        some = self.query(f"{query} s.key = ANY(%s)", ([key_of(each) for each in records],))
        if any(set(text) & set("*?") for text in texts):
            some += self.query(f"{query} f.key = %s", (key_of(MEMORY),))
        known = [*files, *some]
        meant = documents_meeting(
            {key: found}, {n: Described(_NO_TITLE, {}, [(path, rec)]) for n, (_, path, rec) in enumerate(known)}
        )
        whole = [known[n][0] for n in meant if n < len(files)]
        parts = [(known[n][0], key_of(known[n][2])) for n in meant if n >= len(files)]
        yield "SELECT document_id FROM sources WHERE file_id = ANY(%s::bigint[])", (whole,)
        yield (
            "SELECT s.document_id FROM unnest(%s::bigint[], %s::bytea[]) j (file, key)"
            " JOIN sources s ON s.file_id = j.file AND s.key = j.key",
            ([file for file, _ in parts], [each for _, each in parts]),
        )
