"""Parsing in a process of its own: what a file does to its parser, it does to nothing else.

A worker (``worker.py``) reads one file after the other. Where it crashes, hangs, or takes too much memory, that
file gets a reason and the next one a new process.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixrag.corpus.parsers import wire
from mixrag.corpus.parsers.pdf.ocr import Ocr
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.parsers.worker_process import EndedError, TooMuchMemoryError, TooSlowError, WorkerProcess
from mixrag.corpus.passage import Document
from mixrag.errors import SettingError

_GRACE_SECONDS = 2.0  # the worker ends itself at its limit; we do it where it cannot
_SENDING_SECONDS = 60.0
_OUTPUT_BYTES = 2**29
LEAST_MEGABYTES = 256
"""Less than this is not enough for the parsers themselves."""


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What the reading of one file may take.

    Raises:
        SettingError: no positive number of seconds, or fewer than 256 megabytes.
    """

    seconds: float = 60.0
    megabytes: float = 1024.0
    """Memory of the process that parses."""
    ocr: str = "eng"
    """Languages in which tesseract, where it is installed, reads pages that are pictures, such as "eng+deu", for
    three quarters of the time; empty: such pages are not read."""

    def __post_init__(self) -> None:
        Ocr(self.ocr)
        for name, value, least in (
            ("seconds", self.seconds, 1e-3),
            ("megabytes", self.megabytes, LEAST_MEGABYTES),
        ):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not least <= value <= 1e9:
                raise SettingError(f"at least {least:g} {name} for parsing", f"{value!r}"[:60], "give a number")

    @property
    def bytes(self) -> int:
        """Memory in bytes."""
        return int(self.megabytes * 2**20)


DEFAULT_LIMITS = ParseLimits()


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    data: bytes
    limits: ParseLimits


class Worker:
    """Parses files one after the other, in a process that is started when the first one comes.

    For one thread at a time. Several files may be submitted before their results are collected, in the same order.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._files: deque[_File] = deque()
        self._process: WorkerProcess | None = None
        self._served = 0
        self._since = 0.0

    @property
    def pid(self) -> int | None:
        """Id of the process, or None while there is none."""
        return self._process.pid if self._process else None

    @property
    def waiting(self) -> int:
        """Files that were submitted and not collected."""
        return len(self._files)

    @property
    def waiting_bytes(self) -> int:
        """Size of these files."""
        return sum(len(file.data) for file in self._files)

    def submit(self, name: str, data: bytes, limits: ParseLimits) -> None:
        """Let the built-in parser for its name read the bytes of a file; returns at once.

        Raises:
            SourceError: no process can be started.
        """
        if self._process is not None and not self._files and self._process.ended:
            self.close()  # it ended while it had nothing to do
        self._files.append(_File(name, data, limits))
        if self._process is None:
            self._start()
        else:
            self._send(self._files[-1])

    def collect(self) -> ParseResult:
        """The result of the first file that was submitted and not collected.

        Raises:
            UnreadableError: the parser refused the file, crashed, or exceeded a limit.
            SourceError: no process can be started.
        """
        file, sound = self._files[0], False
        try:
            result = self._answer_or_again(file)
            sound = True
            return result
        except UnreadableError:
            sound = True
            raise
        except (EndedError, wire.WireError) as error:
            raise _broken_off(file, error) from error
        finally:
            if sound and self._process is not None and self._process.memory > file.limits.bytes // 2:
                sound = False
            if not sound:  # also when Ctrl-C came while it was at work
                self.close()
            self._files.popleft()

    def close(self) -> None:
        """End the process at once, with all that it started; files that wait go to the next one."""
        process, self._process, self._served = self._process, None, 0
        if process is not None:
            if self.owner == os.getpid():
                process.close()
            else:  # a fork has no right to end it
                process.forget()

    def _start(self) -> None:
        self._process = WorkerProcess()
        self._since = time.monotonic()
        for file in self._files:
            self._send(file)

    def _send(self, file: _File) -> None:
        assert self._process is not None
        if len(self._files) == 1:
            self._since = time.monotonic()
        header = {
            "name": file.name,
            "size": len(file.data),
            "seconds": file.limits.seconds,
            "bytes": file.limits.bytes,
            "ocr": file.limits.ocr,
        }
        self._process.send(wire.framed(header) + file.data)

    def _answer_or_again(self, file: _File) -> ParseResult:
        """The answer; of a process that crashed at its second file or later, what a new one says of the file."""
        if self._process is None:
            self._start()
        try:
            return self._answer(file)
        except EndedError as error:
            if not self._served or isinstance(error, TooSlowError):
                raise
        self.close()  # the files before this one may have damaged it
        self._start()
        return self._answer(file)

    def _answer(self, file: _File) -> ParseResult:
        assert self._process is not None
        documents: list[Document] = []
        left = max(_OUTPUT_BYTES, 16 * len(file.data))
        deadline = self._since + file.limits.seconds + _GRACE_SECONDS
        while True:
            message = self._process.message(deadline, file.limits.bytes, left)
            left -= message.pop(wire.SIZE)
            if not {"documents", "end"} & message.keys():
                raise self._refusal(message)
            documents += wire.documents_of(message)
            if "end" in message:
                self._note_answer()
                return wire.result_of(documents, message)
            deadline = max(deadline, time.monotonic() + _SENDING_SECONDS)

    def _refusal(self, message: dict[str, Any]) -> UnreadableError | TooMuchMemoryError:
        """Why the parser did not read the file."""
        if "memory" in message:
            return TooMuchMemoryError()
        reason = wire.reason_of(message)
        self._note_answer()
        return UnreadableError(*reason)

    def _note_answer(self) -> None:
        """Count an answer; the time of the next file begins now, at the latest."""
        self._served += 1
        self._since = time.monotonic()


def _broken_off(file: _File, error: Exception) -> UnreadableError:
    """The reason of a file whose parser did not come to its end."""
    if isinstance(error, TooSlowError):
        expected = f"a file that is parsed within {file.limits.seconds:g} s"
        return UnreadableError(expected, "that its parser had not ended", "split it or raise --parse-seconds")
    if isinstance(error, TooMuchMemoryError):
        expected = f"a file that is parsed within {file.limits.megabytes:g} MB of memory"
        return UnreadableError(expected, "that its parser needs more", "split it or raise --parse-mb")
    how = f"it answered with {error}" if isinstance(error, wire.WireError) else str(error)
    return UnreadableError(
        f"a valid {Path(file.name).suffix.lower()} file",
        f"that its parser crashed ({how})",
        "repair it, convert it to another format or leave it out",
    )


_idle: list[Worker] = []
_idle_lock = threading.Lock()


@contextmanager
def borrowed_worker() -> Iterator[Worker]:
    """A worker for some files; if sound afterwards, it waits a minute for the next borrower."""
    with _idle_lock:
        worker = _idle.pop() if _idle else Worker()
    if worker.owner != os.getpid():
        worker.close()
        worker = Worker()
    try:
        yield worker
    finally:
        with _idle_lock:
            if keep := not worker.waiting and not _idle:
                _idle.append(worker)
        if not keep:
            worker.close()


@atexit.register
def close_idle_workers() -> None:
    """End the processes that wait for files."""
    with _idle_lock:
        workers, _idle[:] = list(_idle), []
    for worker in workers:
        worker.close()
