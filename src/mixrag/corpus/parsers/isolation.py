"""Parsing in a process of its own: what a file does to its parser, it does to nothing else.

A worker (``worker.py``) reads one file after the other. Where it crashes, hangs, or takes too much memory, that file
gets a reason and the next one a new worker.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from mixrag.corpus.parsers import wire
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.passage import Document
from mixrag.errors import SourceError

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop());"
    " from mixrag.corpus.parsers.worker import main; main()"
)
_START_SECONDS = 60.0
_GRACE_SECONDS = 2.0  # the worker ends itself at its limit; we do it where it cannot
_SENDING_SECONDS = 60.0
_OUTPUT_BYTES = 2**29
_LOOK_SECONDS = 0.05
_MEMORY_MARKS = (b"memory allocation of", b"bad_alloc", b"out of memory", b"MemoryError")


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What the reading of one file may take."""

    seconds: float = 60.0
    megabytes: float = 1024.0
    """Memory of the process that parses."""

    @property
    def bytes(self) -> int:
        """Memory in bytes."""
        return int(self.megabytes * 2**20)


@dataclass(frozen=True, slots=True)
class _Request:
    name: str
    data: bytes
    limits: ParseLimits
    sent: float
    """``time.monotonic()`` of its start."""


class _CrashError(Exception):
    """The worker ended before its answer; the text says how, as "found ..." of a message."""


class Worker:
    """One process that parses files, one at a time: ``submit``, then ``collect``, from one thread at a time."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._request: _Request | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: BinaryIO | None = None
        self._served = 0

    @property
    def pid(self) -> int | None:
        """Id of the process, or None while there is none."""
        return self._process.pid if self._process else None

    @property
    def busy(self) -> bool:
        """Whether a file was submitted whose result was not collected."""
        return self._request is not None

    def submit(self, name: str, data: bytes, limits: ParseLimits) -> None:
        """Begin to parse the bytes of a file with the built-in parser for its name; returns at once.

        Raises:
            SourceError: no process can be started.
        """
        self._request = _Request(name, data, limits, time.monotonic())
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it ended while it had nothing to do
        self._ask()

    def collect(self) -> ParseResult:
        """The result of the file that was submitted.

        Raises:
            UnreadableError: the parser refused the file, crashed, or exceeded a limit.
            SourceError: no process can be started.
        """
        request, sound = self._request, False
        assert request is not None, "nothing was submitted"
        try:
            result = self._answer_or_again(request)
            sound = True
            return result
        except UnreadableError:
            sound = True
            raise
        except _CrashError as crash:
            raise UnreadableError(
                f"a valid {Path(request.name).suffix.lower()} file",
                f"that its parser crashed ({crash})",
                "repair it, convert it to another format or leave it out",
            ) from crash
        finally:
            self._request = None
            if not sound:  # it crashed, or Ctrl-C came while it was at work
                self.close()

    def _answer_or_again(self, request: _Request) -> ParseResult:
        """The answer; of a process that crashed at its second file or later, what a new one says of the file."""
        try:
            return self._answer(request)
        except _CrashError:
            if not self._served:
                raise
        self.close()  # the files before this one may have damaged it
        self._request = request = replace(request, sent=time.monotonic())
        self._ask()
        return self._answer(request)

    def close(self) -> None:
        """End the process at once, with all that it started."""
        process, self._process, self._served = self._process, None, 0
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        if process is None or self.owner != os.getpid():  # a fork has no right to end it
            return
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()

    # --- sending

    def _ask(self) -> None:
        """Send the request; a worker that is gone is noticed by ``collect``."""
        request = self._request
        assert request is not None
        if self._process is None:
            self._start()
        if self._errors is not None:
            self._errors.truncate(0)
        header = {
            "name": request.name,
            "size": len(request.data),
            "seconds": request.limits.seconds,
            "bytes": request.limits.bytes,
        }
        with contextlib.suppress(OSError):
            self._write(wire.framed(header), request)
            self._write(request.data, request)

    def _start(self) -> None:
        """Start a process that shares nothing with the folder or the environment of ours."""
        root = str(Path(__file__).resolve().parents[3])
        paths = [root, *(p for p in sys.path if os.path.isabs(p) and p != os.getcwd())]  # noqa: PTH109, PTH117
        command = [sys.executable, "-I", "-c", _BOOT, json.dumps(paths)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._errors = _error_file()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors or subprocess.DEVNULL,
                env=environment,
                bufsize=0,
                start_new_session=True,  # Ctrl-C reaches us alone, and its own processes end with it
            )
        except OSError as error:
            raise _no_process(error.strerror or str(error)) from error
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        try:
            if "ready" not in self._frame(time.monotonic() + _START_SECONDS, _Budget(2**16), None):
                raise _no_process("something else answered")
        except (_CrashError, UnreadableError, wire.WireError) as error:
            found = self._last_errors().decode("utf-8", "replace").strip().rpartition("\n")[2] or str(error)
            self.close()
            raise _no_process(found[:300]) from error

    def _write(self, data: bytes, request: _Request) -> None:
        assert self._process is not None and self._process.stdin is not None
        pipe, view = self._process.stdin.fileno(), memoryview(data)
        deadline = request.sent + _SENDING_SECONDS
        while view and time.monotonic() < deadline:
            _, ready, _ = select.select([], [pipe], [], 1.0)
            if ready:
                view = view[os.write(pipe, view[: 2**20]) :]

    # --- receiving

    def _answer(self, request: _Request) -> ParseResult:
        deadline = request.sent + request.limits.seconds + _GRACE_SECONDS
        budget = _Budget(max(_OUTPUT_BYTES, 16 * len(request.data)))
        documents: list[Document] = []
        try:
            while True:
                message = self._frame(deadline, budget, request)
                if not {"documents", "end"} & message.keys():
                    raise self._refusal(message, request)
                if "end" in message:
                    return self._served_with(wire.result_of(documents, message), request)
                documents += wire.documents_of(message)
                deadline = max(deadline, time.monotonic() + _SENDING_SECONDS)
        except wire.WireError as error:
            raise _CrashError(f"it answered with {error}") from error
        except _CrashError:
            errors = self._last_errors()
            if wire.TIMEOUT_MARK in errors or any(mark in errors for mark in _MEMORY_MARKS):
                self.close()
                raise (_too_slow if wire.TIMEOUT_MARK in errors else _too_much_memory)(request.limits) from None
            raise

    def _refusal(self, message: dict[str, Any], request: _Request) -> UnreadableError:
        """Why the parser did not read the file."""
        if "memory" in message:
            self.close()
            return _too_much_memory(request.limits)
        return UnreadableError(*wire.reason_of(self._served_with(message, request)))

    def _served_with(self, answer: T, request: _Request) -> T:
        """The answer, after which the process is ready for the next file; one that has grown is ended."""
        assert self._process is not None
        self._served += 1
        if resident_bytes(self._process.pid) > request.limits.bytes // 2:
            self.close()
        return answer

    def _frame(self, deadline: float, budget: _Budget, request: _Request | None) -> dict[str, Any]:
        """The next message.

        Raises:
            UnreadableError: too late, too much memory, or too many bytes; the process was ended.
        """
        (length,) = wire.LENGTH.unpack(self._read(wire.LENGTH.size, deadline, request))
        if not budget.take(length):
            self.close()
            raise UnreadableError("a file with less text", f"more than {budget.size >> 20} MB", "split the file")
        return wire.unframed(self._read(length, deadline, request))

    def _read(self, size: int, deadline: float, request: _Request | None) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        pipe, found = self._process.stdout.fileno(), bytearray()
        while len(found) < size:
            ready, _, _ = select.select([pipe], [], [], _LOOK_SECONDS)
            if ready:
                chunk = os.read(pipe, min(size - len(found), 2**20))
                if not chunk:
                    raise _CrashError(self._end())
                found += chunk
            elif request is not None and resident_bytes(self._process.pid) > request.limits.bytes:
                self.close()
                raise _too_much_memory(request.limits)
            elif time.monotonic() > deadline:
                self.close()
                raise _too_slow(request.limits if request else ParseLimits(_START_SECONDS))
        return bytes(found)

    def _end(self) -> str:
        """How the process ended that has closed its pipe."""
        assert self._process is not None
        try:
            code = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        if code >= 0:
            return f"exit code {code}"
        names = {each.value: each.name for each in signal.Signals}
        return f"signal {-code}, {names[-code]}" if -code in names else f"signal {-code}"

    def _last_errors(self) -> bytes:
        if self._errors is None:
            return b""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2**16))
        return self._errors.read()


class _Budget:
    def __init__(self, size: int) -> None:
        self.size = self.left = size

    def take(self, count: int) -> bool:
        self.left -= count
        return self.left >= 0


_idle: list[Worker] = []
_idle_lock = threading.Lock()


@contextmanager
def borrowed_worker() -> Iterator[Worker]:
    """A worker for some files; one that is sound afterwards waits for the next borrower, and ends if none comes."""
    with _idle_lock:
        worker = _idle.pop() if _idle else Worker()
    if worker.owner != os.getpid():
        worker = Worker()
    try:
        yield worker
    finally:
        with _idle_lock:
            if keep := not worker.busy and not _idle:
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


def resident_bytes(pid: int) -> int:
    """Memory that a process has in use; 0 where it has ended or the system does not say."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - twenty times a second
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        pass
    if Path("/proc/self/statm").exists():
        return 0
    asked = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=False, text=True)
    return int(asked.stdout.strip() or 0) * 1024


def _error_file() -> BinaryIO | None:
    """Where the worker writes its standard error, so that a flood of it can be emptied; None without a disk."""
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the worker
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    except OSError:
        return None
    return file


def _too_slow(limits: ParseLimits) -> UnreadableError:
    expected = f"a file that is parsed within {limits.seconds:g} s"
    return UnreadableError(expected, "that its parser had not ended", "split it or raise --parse-seconds")


def _too_much_memory(limits: ParseLimits) -> UnreadableError:
    expected = f"a file that is parsed within {limits.megabytes:g} MB of memory"
    return UnreadableError(expected, "that its parser needs more", "split it or raise --parse-mb")


def _no_process(found: str) -> SourceError:
    return SourceError("a process that reads files", found, "check the limits of this system on processes")
