"""Filters as SQL: which passages a filter lets through."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixrag.config.filters import Bound, Condition, Equal, Range, spellings
from mixrag.corpus.store import sources
from mixrag.corpus.store.matching import LONGEST_NAME, equal_texts, page_of

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""All rows of one SQL query with its parameters."""
_MEMBER = "CASE e.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' WHEN 'null' THEN 'null' ELSE e.value END"
"""The text of a member of a list, as it would be that of a value."""


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL and the values of its question marks."""

    text: str
    values: tuple[Any, ...] = ()


def passages_where(filter_: Mapping[str, Sequence[Condition]], query: Query) -> Sql:
    """SQL for the row ids, ascending, of the passages that meet one of the conditions of every key.

    Args:
        filter_: keys and parsed conditions.
        query: asks the store, for the files that a name means.
    """
    parts = [_passages_with(key, found, query) for key, found in filter_.items()]
    chosen = " AND ".join(part.text for part in parts)
    values = tuple(value for part in parts for value in part.values)
    return Sql(f"SELECT id FROM passages {f'WHERE {chosen}' if chosen else ''} ORDER BY id", values)


def _passages_with(key: str, found: Sequence[Condition], query: Query) -> Sql:
    """One key: any of the conditions, for what is called by that name or for metadata of that name."""
    alternatives = [_metadata(key, each) for each in found]
    texts = [each.text for each in found if isinstance(each, Equal)]
    if key in ("document", "file"):
        alternatives += [_sources(_sources_named(text, query)) for text in texts]
    elif key == "title":
        alternatives += [_titled(text, query) for text in texts]
    documents = " UNION ".join(each.text for each in alternatives)
    values = tuple(value for each in alternatives for value in each.values)
    of_documents = Sql(f"document_id IN ({documents})", values)
    if key != "page":
        return of_documents
    pages = [_page(each) for each in found]
    either = " OR ".join(part.text for part in (*pages, of_documents))
    return Sql(f"({either})", (*(value for part in pages for value in part.values), *values))


def _metadata(key: str, condition: Condition) -> Sql:
    """Documents with such a value under the key, or with a list that has such a member."""
    # An ASCII key has one spelling, and SQLite reads its values in the order of the index.
    keys, of_key = (key, "key = ?") if key.isascii() else (_list(key), "key IN (SELECT value FROM json_each(?))")
    # Each distinct value is looked into once: there are far fewer of them than documents. The limit of none keeps
    # SQLite from looking into each of them before they are made distinct.
    distinct = f"SELECT value FROM (SELECT DISTINCT value FROM metadata WHERE {of_key}"
    lists = f"{distinct} AND value >= '[' AND value < '\\' LIMIT -1) v WHERE json_valid(v.value)"
    if isinstance(condition, Equal):
        wanted = json.dumps(equal_texts(condition.text))
        fitting = (
            f"SELECT value FROM json_each(?) UNION {lists} AND EXISTS (SELECT 1 FROM json_each(v.value) e"
            f" WHERE CAST({_MEMBER} AS TEXT) IN (SELECT value FROM json_each(?)))"
        )
        values: tuple[Any, ...] = (wanted, keys, wanted)
    else:
        inside, within = _in_range("v.value", condition), _in_range("CAST(e.value AS TEXT)", condition)
        fitting = (
            f"{distinct} LIMIT -1) v WHERE {inside.text} UNION {lists} AND EXISTS (SELECT 1"
            f" FROM json_each(v.value) e WHERE e.type IN ('integer', 'real', 'text') AND {within.text})"
        )
        values = (keys, *inside.values, keys, *within.values)
    return Sql(f"SELECT document_id FROM metadata WHERE {of_key} AND value IN ({fitting})", (keys, *values))


def _list(text: str) -> str:
    return json.dumps(spellings(text))


def _in_range(value: str, range_: Range) -> Sql:
    """Whether a text is a number, or an ISO date, within the range."""
    cases: list[Sql] = []
    if (numbers := range_.numbers) is not None:
        compared = _compared(f"CAST({value} AS NUMERIC)", numbers)
        number = f"{value} GLOB '[-0-9]*' AND json_valid({value})"
        cases.append(Sql(f"WHEN {number} THEN {compared.text}", compared.values))
    if (dates := range_.dates) is not None:
        day = "[0-9][0-9][0-9][0-9]"
        globs = [f"{value} GLOB '{day}{rest}'" for rest in ("", "-[0-9][0-9]", "-[0-9][0-9]-[0-9][0-9]*")]
        compared = _as_far_as_written(f"replace({value}, ' ', 'T')", dates)
        cases.append(Sql(f"WHEN {' OR '.join(globs)} THEN {compared.text}", compared.values))
    text = " ".join(case.text for case in cases)
    return Sql(f"CASE {text} ELSE 0 END", tuple(each for case in cases for each in case.values))


def _compared(value: str, ends: Sequence[Bound | None]) -> Sql:
    parts = [
        (f"{value} {sign}{'' if end.is_open else '='} ?", end.value)
        for sign, end in zip("><", ends, strict=True)
        if end is not None
    ]
    return Sql("(" + " AND ".join(text for text, _ in parts) + ")", tuple(end for _, end in parts))


def _as_far_as_written(value: str, ends: Sequence[Bound | None]) -> Sql:
    """Dates compared by as many characters as both have: 2020-05-01 is in 2020."""
    parts, values = [], list[Any]()
    for sign, end in zip("><", ends, strict=True):
        if end is not None:
            date = str(end.value)
            parts.append(
                f"substr({value}, 1, {len(date)}) {sign}{'' if end.is_open else '='} substr(?, 1, length({value}))"
            )
            values.append(date)
    return Sql("(" + " AND ".join(parts) + ")", tuple(values))


def _page(condition: Condition) -> Sql:
    if isinstance(condition, Equal):
        return Sql("page = ?", (page_of(condition.text),))
    if (numbers := condition.numbers) is None:
        return Sql("page IN ()")
    compared = _compared("page", numbers)
    return Sql(f"(page IS NOT NULL AND {compared.text})", compared.values)


def _titled(title: str, query: Query) -> Sql:
    untitled = query(
        "SELECT document_id, min(path), record FROM sources JOIN files ON files.id = file_id"
        " JOIN documents ON documents.id = document_id WHERE title = '' GROUP BY document_id",
        (),
    )
    wanted = sources.composed(title)
    shown = [
        id_ for id_, path, record in untitled if sources.composed(sources.fallback_title(path, record)) == wanted
    ]
    text = (
        "SELECT id FROM documents WHERE title IN (SELECT value FROM json_each(?))"
        " UNION SELECT value FROM json_each(?)"
    )
    return Sql(text, (_list(title), json.dumps(shown)))


def _sources(found: Sequence[tuple[int, str | None]]) -> Sql:
    """Documents of these files, or of these records of them."""
    whole = [file for file, record in found if record is None]
    records = [[file, record] for file, record in found if record is not None]
    text = (
        "SELECT document_id FROM sources WHERE file_id IN (SELECT value FROM json_each(?))"
        " UNION SELECT s.document_id FROM json_each(?) j JOIN sources s"
        " ON s.file_id = json_extract(j.value, '$[0]') AND s.record = json_extract(j.value, '$[1]')"
    )
    return Sql(text, (json.dumps(whole), json.dumps(records)))


def _sources_named(name: str, query: Query) -> list[tuple[int, str | None]]:
    """The files, records and documents from memory that a name means; None in the place of a record: all of it."""
    found: list[tuple[int, str | None]] = [(file, None) for file in _files_named(name, query)]
    for place in (match.start() for match in re.finditer("#", name)):
        files, record = _files_named(name[:place], query), name[place + 1 :]
        found += [(file, each) for file in files for each in spellings(record) if each]
    memory = query("SELECT id FROM files WHERE path = ?", (sources.MEMORY,))
    return found + [(id_, record) for (id_,) in memory for record in _records_named(name, id_, query)]


def _files_named(name: str, query: Query) -> list[int]:
    if not name or len(name) > LONGEST_NAME:
        return []
    glob, chosen = name.replace("[", "[[]"), "path = ? OR path GLOB ? OR path GLOB ?"  # "[" is a letter
    if "?" in name or not name.isascii():
        # GLOB knows one spelling only, and two characters in a decomposed letter.
        chosen += " OR path GLOB '*[^ -~]*'"
    rows = query(
        f"SELECT id, path FROM files WHERE path != ? AND ({chosen})", (sources.MEMORY, name, glob, f"*/{glob}")
    )
    exact = [id_ for id_, path in rows if path == name]
    matches = sources.name_test(name)
    return exact or [id_ for id_, path in rows if matches(path)]


def _records_named(name: str, memory: int, query: Query) -> list[str]:
    sql = "SELECT record FROM sources WHERE file_id = ?"
    exact = query(f"{sql} AND record IN (SELECT value FROM json_each(?))", (memory, _list(name)))
    if exact or not set(name) & set("*?"):
        return [record for (record,) in exact]
    matches = sources.name_test(name, last_parts=False)
    return [record for (record,) in query(sql, (memory,)) if matches(record)]
