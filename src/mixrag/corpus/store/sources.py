"""Where a document came from: a file, a record of a file, or the memory of a program that called ``RAG.add``.

The tables know a source by a path and a record. Documents from memory all have one path, ``MEMORY``, with
their id as the record. Paths of files are absolute, so none of them is equal to it or below it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

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


def is_there(path: str) -> bool:
    """False for a file that is gone: moved, renamed or deleted. What is in memory is always there."""
    return path == MEMORY or os.path.lexists(path)


def preferred(known: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Which of a document's sources (path, record) is shown: the first, in sorted order, that exists."""
    first, *others = sorted(known)
    if not others:
        return first
    return next((each for each in (first, *others) if is_there(each[0])), first)


def composed(text: str) -> str:
    """The text as most systems write it (NFC): macOS writes an accent as a character of its own."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def name_test(name: str, *, last_parts: bool = True) -> Callable[[str], bool]:
    """A test whether a path is meant by a name, in which ``*`` and ``?`` stand for any text and any character.

    >>> [name_test("dir/a [?].txt")(path) for path in ("/x/dir/a [1].txt", "/x/dir/a 1.txt")]
    [True, False]

    Args:
        name: upper and lower case differ; composed and decomposed spellings do not.
        last_parts: the last parts of a path are enough.
    """
    letters = (".*" if letter == "*" else "." if letter == "?" else re.escape(letter) for letter in composed(name))
    pattern = re.compile(f"{'(.*/)?' if last_parts else ''}{''.join(letters)}", re.DOTALL)
    return lambda path: pattern.fullmatch(composed(path)) is not None
