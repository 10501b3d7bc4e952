"""Files of a multipart request, written to disk as they arrive: none is ever in memory as a whole."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from mixrag.errors import MixragError, StoreFullError
from mixrag.server.disconnect import ClientGoneError
from mixrag.server.errors import RequestError
from mixrag.server.native.file_names import safe_name
from mixrag.server.writers import WriterLimits

FIELDS = ("files", "file")
"""Names of the form's fields that may hold files."""


class UploadTooLargeError(RequestError):
    """A file, or the number of files, is over its limit."""

    status = 413
    code = "too_large"


class UnwritableError(RequestError):
    """The store's folder cannot be written to."""

    status = 409
    kind = "conflict_error"
    code = "store_read_only"


def refused_by_disk(error: OSError) -> MixragError:
    """What a client gets where a file of its could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(
            "space for the files", "a full disk", "free some on the server, then send them again"
        )
    found = error.strerror or type(error).__name__
    return UnwritableError("a store that files can be added to", found, "check the permissions of its folder")


async def receive(request: Request, new_file: Callable[[], Path], limits: WriterLimits) -> dict[str, Path]:
    """The files of a request that have arrived as a whole, by their safe names; the caller deletes or moves them.

    Raises:
        RequestError: not a form of files, two of one name, or more of them than the server takes.
        StoreFullError, UnwritableError: a file cannot be written.
        ClientGoneError: the client closed its connection before all had arrived.
    """
    form = _Form(_boundary(request), new_file, limits)
    try:
        async for chunk in _chunks(request):
            form.feed(chunk)
            await asyncio.to_thread(form.write)
        form.check_complete()
        return {part.name: part.path for part in form.parts}
    except BaseException as error:
        await asyncio.to_thread(form.discard)
        if isinstance(error, OSError):
            raise refused_by_disk(error) from error
        raise


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise ClientGoneError("all files", "a closed connection", "send them again") from error


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise _not_a_form(f"the content type {request.headers.get('content-type', '')[:80]!r}")
    return boundary


def _not_a_form(found: str) -> RequestError:
    remedy = "send them as curl does: curl -F files=@report.pdf ADDRESS/v1/documents"
    return RequestError("a form with files (multipart/form-data)", found, remedy, "files")


@dataclass
class _Part:
    """A file that arrives."""

    name: str
    path: Path
    size: int = 0
    waiting: list[bytes] = field(default_factory=list)
    stream: BinaryIO | None = None
    is_whole: bool = False


class _Form:
    """The parts of a form. ``feed`` reads them, on the event loop; ``write`` and ``discard`` touch the disk."""

    def __init__(self, boundary: bytes, new_file: Callable[[], Path], limits: WriterLimits) -> None:
        self.parts: list[_Part] = []
        self._new_file, self._limits = new_file, limits
        self._header, self._value = b"", b""
        self._disposition = b""
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _not_a_form(str(error)) from error

    def feed(self, chunk: bytes) -> None:
        """Read a piece of the request."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _not_a_form(f"a broken one ({error})") from error

    def write(self) -> None:
        """Write what has been read to the disk."""
        for part in self.parts:
            if part.stream is None and not part.path.name:
                part.path = self._new_file()
                part.stream = part.path.open("xb")
            if part.stream is None:
                continue
            for piece in part.waiting:
                part.stream.write(piece)
            part.waiting.clear()
            if part.is_whole:
                part.stream.flush()
                os.fsync(part.stream.fileno())
                part.stream.close()
                part.stream = None

    def discard(self) -> None:
        """Delete all that was written."""
        for part in self.parts:
            with suppress(OSError):
                if part.stream is not None:
                    part.stream.close()
            with suppress(OSError):
                if part.path.name:
                    part.path.unlink(missing_ok=True)

    def check_complete(self) -> None:
        """Raise RequestError where the form ends early, or has no file."""
        if not self._ended:
            raise _not_a_form("one that ends early")
        if not self.parts:
            raise _not_a_form("no file in it")

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        field_name = options.get(b"name", b"").decode("utf-8", "replace")
        if field_name not in FIELDS or b"filename" not in options:
            raise _not_a_form(f"a field {field_name[:80]!r} that is no file named files")
        if len(self.parts) == self._limits.files:
            expected = f"at most {self._limits.files} files in one request"
            raise UploadTooLargeError(expected, "more", "send them in several requests", "files")
        name = safe_name(options[b"filename"].decode("utf-8", "replace"))
        if any(part.name == name for part in self.parts):
            raise RequestError("files of different names", f"{name!r} twice", "rename one of them", "files")
        self.parts.append(_Part(name, Path()))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.size += end - start
        if part.size > self._limits.file_bytes:
            expected = f"files of at most {self._limits.file_bytes / 2**20:g} MB"
            raise UploadTooLargeError(
                expected, f"{part.name!r}, which is larger", "split it, or raise --file-mb", "files"
            )
        part.waiting.append(data[start:end])

    def _part_end(self) -> None:
        self.parts[-1].is_whole = True

    def _end(self) -> None:
        self._ended = True
