"""One running worker: starting it, sending to it, reading its messages within limits, ending it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

from mixrag.corpus.parsers import wire
from mixrag.errors import SourceError

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop());"
    " from mixrag.corpus.parsers.worker import main; main()"
)
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_CHUNK = 2**20
_SENT_TOGETHER = 2**14  # each writing wakes the process, which costs more than parsing a small file
_MEMORY_MARKS = (b"memory allocation of", b"bad_alloc", b"out of memory", b"MemoryError")


class EndedError(Exception):
    """The process ended before its answer; the text says how."""


class TooSlowError(EndedError):
    """It took more time than it may."""


class TooMuchMemoryError(EndedError):
    """It took more memory than it may."""


class WorkerProcess:
    """A process that shares nothing with the folder, the terminal or the modules of ours."""

    def __init__(self) -> None:
        """Start it and wait until it can take files.

        Raises:
            SourceError: it cannot be started.
        """
        self._errors = _error_file()
        self._unsent, self._received = bytearray(), bytearray()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, json.dumps(_module_paths())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors or subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                bufsize=0,
                start_new_session=True,  # Ctrl-C reaches us alone; what it starts ends with it
            )
        except OSError as error:
            raise _cannot_start(error.strerror or str(error)) from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        try:
            self.message(time.monotonic() + _START_SECONDS, 2**62, 2**16)
        except (EndedError, wire.WireError) as error:
            last = self._last_errors().decode("utf-8", "replace").strip().rpartition("\n")[2]
            self.close()
            raise _cannot_start(last[:300] or str(error)) from error
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is known to have ended."""
        return self._process.poll() is not None

    @property
    def memory(self) -> int:
        """Memory that it has in use, in bytes."""
        return resident_bytes(self._process.pid)

    def send(self, data: bytes) -> None:
        """Send as much as it takes now, or a little later with more; the rest when its messages are waited for."""
        self._unsent += data
        if len(self._unsent) >= _SENT_TOGETHER:
            self._push()

    def message(self, deadline: float, most_memory: int, most_bytes: int) -> dict[str, Any]:
        """Its next message.

        Args:
            deadline: in seconds of ``time.monotonic``.
            most_memory: bytes that it may have in use.
            most_bytes: length of the longest message that is read.

        Raises:
            EndedError: it has ended, or has exceeded a limit.
            WireError: it sent something else than a message.
        """
        (length,) = wire.LENGTH.unpack(self._take(wire.LENGTH.size, deadline, most_memory))
        if length > most_bytes:
            raise wire.WireError(f"{length:,} bytes at once")
        return wire.unframed(self._take(length, deadline, most_memory))

    def close(self) -> None:
        """End it at once, with all that it started."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close our ends of its pipes, and leave it alone."""
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _push(self) -> None:
        with contextlib.suppress(OSError):  # it has ended, which reading tells, or has no room
            while self._unsent:
                del self._unsent[: os.write(self._to, memoryview(self._unsent)[:_CHUNK].tobytes())]

    def _take(self, size: int, deadline: float, most_memory: int) -> bytes:
        if len(self._received) < size:
            self._push()
        while len(self._received) < size:
            readable, writable, _ = select.select(
                [self._from], [self._to] if self._unsent else [], [], _LOOK_SECONDS
            )
            if readable:
                chunk = os.read(self._from, _CHUNK)
                if not chunk:
                    raise self._ended()
                self._received += chunk
                continue
            if writable:
                self._push()
            if self.memory > most_memory:
                raise TooMuchMemoryError
            if time.monotonic() > deadline:
                raise TooSlowError
        found = bytes(memoryview(self._received)[:size])
        del self._received[:size]
        return found

    def _ended(self) -> EndedError:
        """How the process ended that has closed its pipe."""
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return EndedError("it closed its pipe")
        errors = self._last_errors()
        if wire.TIMEOUT_MARK in errors:
            return TooSlowError()
        if any(mark in errors for mark in _MEMORY_MARKS):
            return TooMuchMemoryError()
        if code >= 0:
            return EndedError(f"exit code {code}")
        names = {each.value: f", {each.name}" for each in signal.Signals}
        return EndedError(f"signal {-code}{names.get(-code, '')}")

    def _last_errors(self) -> bytes:
        if self._errors is None:
            return b""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2**16))
        return self._errors.read()


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


def _module_paths() -> list[str]:
    """Where it finds modules: as we do, but never in the working folder, which may be one of documents."""
    root = str(Path(__file__).resolve().parents[3])
    return [root, *(p for p in sys.path if os.path.isabs(p) and p != os.getcwd())]  # noqa: PTH109, PTH117


def _error_file() -> BinaryIO | None:
    """Where it writes its standard error, which it empties before each file; None without a disk."""
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the process
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    except OSError:
        return None
    return file


def _cannot_start(found: str) -> SourceError:
    return SourceError("a process that reads files", found, "check the limits of this system on processes")
