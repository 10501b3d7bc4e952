"""Files and folders that appear complete or not at all, and are on the disk when the call returns.

What is being written has the name ``.writing-NAME``. A killed process may leave such a file: the next write of
NAME starts it again, and nothing reads it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

WRITING, REPLACED = ".writing-", ".replaced-"
"""Before the name of what is not complete yet; before that of a folder whose successor takes its place."""


def write_atomically(path: Path, content: bytes, *, shared: bool = False, private: bool = False) -> None:
    """Write a file.

    Args:
        path: where; the folder must exist. A file that is there is replaced.
        content: the whole file.
        shared: other processes may write the same file at the same time.
        private: only its owner may read it, from its first byte on.

    Raises:
        OSError: it cannot be written; one that was there before is unchanged.
    """
    scratch = _scratch(path, shared)
    try:
        if private:
            scratch.unlink(missing_ok=True)  # one that a killed process left may have another mode
        with open(scratch, "wb", opener=_private if private else None) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
        _sync_names(path.parent)
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def replace_atomically(path: Path, write: Callable[[Path], object], *, shared: bool = False) -> None:
    """Have another library write a file or folder, and put it in place when it is complete.

    A folder cannot take the place of another in one step: a process killed between the two leaves the former one
    as ``.replaced-NAME``.

    Args:
        path: where; missing folders above it are made.
        write: writes to the path that it is given, where nothing is.
        shared: other processes may write the same at the same time; of folders the first one that is done stays.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
        Exception: whatever ``write`` raises.
    """
    scratch = _scratch(path, shared)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(scratch)
        write(scratch)
        for each in (*scratch.rglob("*"), scratch):
            if each.is_dir():
                _sync_names(each)
            else:
                with each.open("r+b") as stream:
                    os.fsync(stream.fileno())
        _take_place(scratch, path, shared)
    finally:
        remove(scratch)


def remove(path: Path) -> None:
    """Delete a file, or a folder with all in it, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)


def _scratch(path: Path, shared: bool) -> Path:
    return path.with_name(f"{WRITING}{path.name}{f'-{secrets.token_hex(8)}' if shared else ''}")


def _take_place(scratch: Path, path: Path, shared: bool) -> None:
    former = path.with_name(f"{REPLACED}{path.name}")
    if path.is_dir():
        if shared:
            return
        remove(former)
        path.rename(former)
    try:
        scratch.replace(path)
    except OSError:
        if shared and path.is_dir():  # another process was faster
            return
        if former.exists() and not path.exists():
            former.rename(path)
        raise
    _sync_names(path.parent)
    remove(former)


def _sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can say so."""
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot
            raise
    finally:
        os.close(number)
