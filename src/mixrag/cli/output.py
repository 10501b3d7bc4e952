"""Files that commands write where the user asks for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mixrag.errors import OutputError
from mixrag.utils.atomic import write_atomically

if TYPE_CHECKING:
    from mixrag.answers.explanation import Explanation


def target(path: Path, example: str) -> Path:
    """The file that a path names, after links; errors that can be foreseen are raised before any work.

    ``example`` is a name for it, in case the path is a folder.

    Raises:
        OutputError: it is not a file that could be written.
    """
    try:
        _check(path, example)
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long, a NUL
        raise OutputError("a file to write", f"{path}: {error}", "name another") from error


def write_explanation(path: Path, explanation: Explanation) -> None:
    """Write the HTML page of an explanation; it appears complete or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    from mixrag.answers.explanation_html import explanation_page

    write_text(path, explanation_page(explanation), "the explanation")


def write_text(path: Path, text: str, what: str) -> None:
    """Write a file that appears complete or not at all; ``what`` it is, for the message.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        found = f"{path}: {error.strerror or error}"
        raise OutputError(f"room to write {what}", found, "name another file") from error


def _check(path: Path, example: str) -> None:
    folder = path.resolve().parent
    if path.is_dir():
        raise OutputError("a file to write", f"{path}, a folder", f"name a file, such as {path / example}")
    if path.exists() and not path.is_file():
        raise OutputError("a file to write", f"{path}, a device or pipe", "name a file")
    if not folder.is_dir():
        raise OutputError("a file in a folder that exists", f"no folder {folder}", f"make it: mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise OutputError("a folder that can be written to", f"{folder}, which cannot", "name another file")
