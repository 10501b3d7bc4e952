"""Where a document came from: a file, a record of a file, or the memory of a program that called ``RAG.add``.

The tables know a source by a path and a record. Documents from memory all have one path, ``MEMORY``, with
their id as the record. Paths of files are absolute, so none of them is equal to it or below it.
"""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path, PurePath

MEMORY = "memory:"
"""The path of all documents that were added from memory."""
_HASH = re.compile(r"[0-9a-f]{32}")


def display(path: str, record: str) -> str:
    """How a source is shown: the id of a document from memory, else its path, with '#record' for a record.

    >>> display("/data/a.jsonl", "7"), display(MEMORY, "fees-7")
    ('/data/a.jsonl#7', 'fees-7')
    """
    if path == MEMORY:
        return record
    return f"{path}#{record}" if record else path


def fallback_title(path: str, record: str = "") -> str:
    """Title to show where the document has none: its id, or the file's stem in plain words.

    An id that is only a hash does not help a reader, and becomes "untitled".
    """
    if path == MEMORY and _HASH.fullmatch(record):
        return "untitled"
    return record or re.sub(r"[-_]+", " ", Path(path).stem).strip() or Path(path).name


def front_title(title: str, path: str, record: str) -> str:
    """The title that encoder and BM25 read before a passage: the document's own, else the name of the file.

    The id of a record says nothing about it, and is left out.
    """
    return title or ("" if record or path == MEMORY else fallback_title(path))


def names_file(name: str, path: str) -> bool:
    """True where a name is a file's path or its last part, or a pattern with ``*`` and ``?`` for one of them."""
    return name in {path, PurePath(path).name} or any(
        fnmatch.fnmatchcase(path, pattern) for pattern in (name, f"*/{name}")
    )
