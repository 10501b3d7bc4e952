"""Uploaded files of a store: where they lie, and how a file and its passages come and go together.

    STORE/uploads/NAME              a file, indexed
    STORE/uploads/.receiving/…      a file that is still arriving; nothing reads it
    STORE/uploads/.pending/NAME     mark: NAME may not be indexed yet
    STORE/uploads/.former/NAME      what NAME was before, until its successor is indexed
    STORE/uploads/.deleted/NAME     mark: NAME goes as soon as the store no longer has it

A process that is killed at any instant leaves marks from which ``settle`` brings files and store to agree.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mixrag.corpus import IndexReport, Skipped
from mixrag.corpus.store.locks import exclusive
from mixrag.errors import SourceError, StoreBusyError
from mixrag.rag import RAG
from mixrag.server.errors import NotFoundError
from mixrag.utils.progress import Progress

_LOG = logging.getLogger("mixrag.server")
FOLDER = "uploads"
STALE_SECONDS = 3600.0
"""What has not grown for so long is no longer arriving."""


@dataclass(frozen=True)
class UploadReport:
    """What became of uploaded files."""

    index: IndexReport
    left_out: Mapping[str, str]
    """Files that were not stored, and are gone again, with the reason."""
    stored: Sequence[str]
    """Names of those that were."""

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """As JSON: the report of ``mixrag index --json``, and what became of each file."""
        files = [{"name": name, "document": str(folder / name), "stored": True} for name in self.stored]
        gone = [{"name": name, "stored": False, "reason": reason} for name, reason in self.left_out.items()]
        return {**self.index.to_dict(), "files": files + gone}


class Uploads:
    """The uploaded files of one store. Its methods that write are to be called by one thread at a time."""

    def __init__(self, rag: RAG, max_bytes: int = 25 * 2**20) -> None:
        self.rag, self.max_bytes = rag, max_bytes
        self.folder = rag.store.cache_directory / FOLDER
        self._receiving, self._pending = self.folder / ".receiving", self.folder / ".pending"
        self._former, self._deleted = self.folder / ".former", self.folder / ".deleted"

    def new_file(self) -> Path:
        """Where a file that arrives is written; nothing is there yet.

        Raises:
            OSError: the folder cannot be made.
        """
        self._receiving.mkdir(parents=True, exist_ok=True)
        return self._receiving / secrets.token_hex(16)

    def holds(self, path: str) -> bool:
        """Whether a document's path is that of an uploaded file, or of a record of one."""
        return path.startswith(f"{self.folder}{os.sep}")

    def pending(self) -> list[str]:
        """Names of the files whose indexing was interrupted; they are indexed at the next upload or start."""
        return _names_in(self._pending)

    def add(self, files: Mapping[str, Path], progress: Progress | None = None) -> UploadReport:
        """Put files that have arrived in their place, by name, and index them.

        A file of the same name is replaced, unless the new one cannot be read. Where the store could not be
        changed at all, nothing of the files remains.

        Raises:
            StoreBusyError: another process is writing to the store.
            StoreFullError: no space is left.
            OSError: a file cannot be moved.
        """
        with self._locked():
            unsettled = self._unsettled()
            generation = self.rag.store.generation
            try:
                for name, path in files.items():
                    self._place(name, path)
                others = [name for name in unsettled if name not in files]
                return self._index([*files, *others], files, progress)
            except BaseException:
                if self.rag.store.generation == generation:
                    for name in files:
                        if name not in unsettled:
                            self._withdraw(name)
                raise

    def delete(self, document: str) -> list[str]:
        """Delete a document from the store, and its uploaded file where nothing else of it is left.

        Returns:
            Names of the files that were deleted.

        Raises:
            NotFoundError: there is no such document.
            StoreBusyError: another process is writing to the store.
        """
        store = self.rag.store
        if store.document_row(document) is None:  # before anything is written, such as a lock in a store read only
            raise _no_document(document)
        with self._locked():
            row = store.document_row(document)
            paths = [] if row is None else store.files_of(row)
            for path in filter(self.holds, paths):
                _mark(self._deleted / Path(path).name)
            removed = store.remove_document(document)
            names = [Path(path).name for path in filter(self.holds, paths)]
            gone = [name for name in names if self._finish_deletion(name)]
            if removed is None:
                raise _no_document(document)
            return gone

    def settle(self) -> list[str]:
        """Finish what a process that was killed has left; the names of files that were indexed now.

        Raises:
            StoreBusyError: another process is writing to the store.
        """
        if not self.folder.is_dir():
            return []
        with self._locked():
            self._forget_stale()
            unsettled = self._unsettled()
            return list(self._index(unsettled, {}, None).stored) if unsettled else []

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with exclusive(self.folder / ".lock", self.rag.store.timeout):
                yield
        except TimeoutError as error:
            found = "another process that changes its uploads"
            raise StoreBusyError(f"the store {self.rag.store.name}", found, "send it again later") from error

    def _unsettled(self) -> list[str]:
        """Files that may not be indexed: marked ones, and those that the store does not know."""
        for name in _names_in(self._deleted):
            self._finish_deletion(name)
        for name in _names_in(self._pending):
            if not (self.folder / name).exists():
                self._withdraw(name)
        known = set(self.rag.store.files_below(str(self.folder)))
        there = [entry.name for entry in os.scandir(self.folder) if entry.is_file() and entry.name[0] != "."]
        marked = set(_names_in(self._pending))
        return sorted(name for name in there if name in marked or str(self.folder / name) not in known)

    def _place(self, name: str, arrived: Path) -> None:
        target, former = self.folder / name, self._former / name
        was_pending = (self._pending / name).exists()
        _mark(self._pending / name)
        if target.exists() and not was_pending:
            self._former.mkdir(exist_ok=True)
            target.replace(former)
        arrived.replace(target)
        _sync(self.folder)

    def _index(self, names: Sequence[str], new: Mapping[str, Path], progress: Progress | None) -> UploadReport:
        paths = [self.folder / name for name in names]
        report = self._indexed(paths, progress)
        reasons = {each.path: each.reason for each in report.skipped}
        left_out = {path.name: reasons[str(path)] for path in paths if str(path) in reasons}
        for name in names:
            if name not in left_out:
                self._accept(name)
            elif (self._pending / name).exists():
                self._withdraw(name)
        asked = new or names
        others = {str(self.folder / name) for name in names if name not in asked}
        report = replace(report, skipped=tuple(each for each in report.skipped if each.path not in others))
        stored = [name for name in asked if name not in left_out]
        return UploadReport(report, {name: left_out[name] for name in asked if name in left_out}, stored)

    def _indexed(self, paths: Sequence[Path], progress: Progress | None) -> IndexReport:
        """The report of an indexing run, also where none of the files could be read."""
        try:
            rag = self.rag
            return rag.index(list(paths), splitter=rag.splitter, max_bytes=self.max_bytes, progress=progress)
        except SourceError as error:
            if len(paths) > 1:
                reports = [self._indexed([path], progress) for path in paths]
                return replace(reports[-1], skipped=tuple(each for report in reports for each in report.skipped))
            reason = error.found.removeprefix(f"nothing readable: {paths[0]}: ")
            counts = self.rag.store.counts()
            return IndexReport(counts.documents, counts.passages, 0, 0, 0, 0, (Skipped(str(paths[0]), reason),))

    def _accept(self, name: str) -> None:
        """The file is indexed: what it was before is not needed any more."""
        for each in (self._former / name, self._pending / name):
            each.unlink(missing_ok=True)

    def _withdraw(self, name: str) -> None:
        """Take a file away again, and bring back what it was before."""
        former = self._former / name
        if former.exists():
            former.replace(self.folder / name)
        else:
            (self.folder / name).unlink(missing_ok=True)
        (self._pending / name).unlink(missing_ok=True)

    def _finish_deletion(self, name: str) -> bool:
        """Delete a file of which nothing is left in the store."""
        gone = not self.rag.store.files_below(str(self.folder / name))
        if gone:
            (self.folder / name).unlink(missing_ok=True)
            self._accept(name)
        (self._deleted / name).unlink(missing_ok=True)
        return gone

    def _forget_stale(self) -> None:
        for name in _names_in(self._receiving):
            with suppress(OSError):
                if time.time() - (self._receiving / name).stat().st_mtime > STALE_SECONDS:
                    (self._receiving / name).unlink()


def _no_document(document: str) -> NotFoundError:
    shown = repr(document if len(document) <= 200 else f"{document[:199]}…")
    return NotFoundError("a document of this store", shown, "see GET /v1/documents", "document")


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return []


def _mark(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can say so."""
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network drives cannot
            os.fsync(number)
    finally:
        os.close(number)
