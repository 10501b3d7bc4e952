"""Texts as PostgreSQL can store them: it has no NUL, and no halves of surrogate pairs."""

from __future__ import annotations

import re
from typing import Any

from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.types.string import StrBinaryDumper, StrDumperUnknown

_UNSTORABLE = re.compile("[\0\x1a\ud800-\udfff]")
_STORED = re.compile("\x1a([0-9a-f]{4})")


def _stored(text: str) -> bytes:
    return _UNSTORABLE.sub(lambda found: f"\x1a{ord(found[0]):04x}", text).encode()


class _Dumper(StrDumperUnknown):
    def dump(self, obj: str) -> Buffer | None:
        return _stored(obj)


class _BinaryDumper(StrBinaryDumper):
    def dump(self, obj: str) -> Buffer | None:
        return _stored(obj)


class _Loader(Loader):
    def load(self, data: Buffer) -> str:
        text = str(data, "utf-8")
        return _STORED.sub(lambda found: chr(int(found[1], 16)), text) if "\x1a" in text else text


class _BinaryLoader(_Loader):
    format = Format.BINARY


def register_texts(connection: Connection[Any]) -> None:
    """Write and read all texts of a connection so that any text comes back as it was."""
    for dumper in (_BinaryDumper, _Dumper):
        connection.adapters.register_dumper(str, dumper)
    for loader in (_Loader, _BinaryLoader):
        connection.adapters.register_loader("text", loader)
