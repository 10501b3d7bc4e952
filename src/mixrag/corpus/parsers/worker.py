"""The process that parses: files in, documents out, within limits; see ``isolation.py`` for the other side.

It is started by ``isolation.Worker``, not by people. Untrusted bytes are read here by libraries in C and Rust, so
that a crash, an endless loop or a bomb ends this process alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import select
import signal
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from mixrag.corpus.parsers.pdf.ocr import Ocr
from mixrag.corpus.parsers.registry import ParserRegistry, import_parsers
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.parsers.wire import LENGTH, framed, messages, unframed

IDLE_SECONDS = 60
"""After so long without a file the process ends; the next file starts another one."""
_CHARACTERS = 100_000_000
_DOCUMENTS = 1_000_000
_HEADROOM = 256 * 2**20  # for the stacks of threads and buffers that are reserved and never used
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer requests until the other side closes its end."""
    incoming, outgoing = _private_pipes()
    _die_with_parent()
    parsers = ParserRegistry()
    import_parsers()
    gc.freeze()
    _send(outgoing, {"ready": os.getpid()})
    while (request := _next_request(incoming)) is not None:
        _empty_errors()
        for message in _answers(parsers, *request):
            _send(outgoing, message)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our two pipes, which no library can reach: what it prints goes to standard error."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(incoming, "rb", buffering=0), os.fdopen(outgoing, "wb")


def _die_with_parent() -> None:
    """Ask Linux to end this process with the one that started it; elsewhere the time limit does, at the latest."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before it could be asked for
            os._exit(0)


def _next_request(incoming: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Header and file of the next request; None at the end, or after a long time without one."""
    ready, _, _ = select.select([incoming], [], [], IDLE_SECONDS)
    length = _exactly(incoming, LENGTH.size) if ready else b""
    if len(length) < LENGTH.size:
        return None
    header = unframed(_exactly(incoming, LENGTH.unpack(length)[0]))
    return header, _exactly(incoming, header["size"])


def _exactly(incoming: BinaryIO, size: int) -> bytes:
    """So many bytes, or fewer at the end; no more are taken, so that ``select`` sees those."""
    first = incoming.read(size)
    if len(first) == size or not first:
        return first
    parts, left = [first], size - len(first)
    while left and (part := incoming.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _empty_errors() -> None:
    """Standard error is a file: what the last document made a library say is gone."""
    with contextlib.suppress(OSError):
        os.ftruncate(2, 0)


def _send(outgoing: BinaryIO, message: dict[str, Any]) -> None:
    outgoing.write(framed(message))
    outgoing.flush()


def _answers(parsers: ParserRegistry, header: dict[str, Any], data: bytes) -> Iterator[dict[str, Any]]:
    """The messages that answer one request."""
    try:
        with_limit(header["bytes"], header["seconds"])
        result = parsers.parse(Path(header["name"]), data, Ocr(header["ocr"], 0.75 * header["seconds"]))
        check_output(result, len(data))
        faulthandler.cancel_dump_traceback_later()  # the other side may be at work before it reads the answer
        yield from messages(result)
    except UnreadableError as error:
        yield {"error": [error.expected, error.found, error.remedy]}
    except MemoryError:
        yield {"memory": True}
    except Exception as error:  # a result that cannot be written as JSON
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield {"error": ["a file that can be read", found, "repair it or leave it out"]}
    finally:
        faulthandler.cancel_dump_traceback_later()


def with_limit(size: int, seconds: float) -> None:
    """Limit the memory of this process, in bytes, and the time until ``cancel_dump_traceback_later``.

    The timer of faulthandler runs outside of Python: it ends a loop in C as well.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    _limit_memory(size)


@lru_cache(maxsize=1)
def _limit_memory(size: int) -> None:
    _set_limit("RLIMIT_DATA", size + _HEADROOM)
    _set_limit("RLIMIT_FSIZE", size)
    _set_limit("RLIMIT_CORE", 0)


def _set_limit(name: str, value: int) -> None:
    try:
        import resource

        _, hard = resource.getrlimit(getattr(resource, name))
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(getattr(resource, name), (wanted, hard))
    except (ImportError, AttributeError, ValueError, OSError):  # a system without it: the other side watches too
        return


def check_output(result: ParseResult, size: int) -> None:
    """Refuse what is far more than a file of ``size`` bytes should have.

    Raises:
        UnreadableError: too many characters or documents.
    """
    characters = sum(len(each.text) for each in result.documents)
    found: tuple[tuple[str, int, int], ...] = (
        ("characters", characters, max(_CHARACTERS, 2 * size)),
        ("documents", len(result.documents), max(_DOCUMENTS, size // 20)),
    )
    for unit, count, most in found:
        if count > most:
            raise UnreadableError(f"at most {most:,} {unit} in a file", f"{count:,}", "split the file")


if __name__ == "__main__":
    main()
