"""A location postgresql://…?schema=NAME: what libpq needs of it, the schema, and what may be shown."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mixrag.corpus.store.location import Location
from mixrag.errors import SettingError

SCHEMA = "mixrag"
"""Where a location names no other."""
_FORM = "postgresql://USER@HOST:PORT/DATABASE?schema=NAME"
_DEFAULTS = {
    "application_name": "mixrag",
    "connect_timeout": "10",
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""Seconds and milliseconds after which a server that does not answer is given up; a location may say otherwise."""


@dataclass(frozen=True, slots=True)
class Address:
    """A database and a schema in it."""

    parameters: dict[str, str] = field(repr=False)
    """Of libpq; they may contain a password."""
    schema: str
    name: str
    """The location as it may be shown."""

    @property
    def lock(self) -> int:
        """Number of the advisory lock that its writer has."""
        digest = hashlib.sha256(f"mixrag {self.schema}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    def cleaned(self, message: object) -> str:
        """A message of libpq or the server on one line, without the password."""
        text = " ".join(str(message).split())
        password = self.parameters.get("password")
        return text.replace(password, "***") if password else text


def address_of(location: Location) -> Address:
    """What a location says.

    Raises:
        SettingError: it is not of that form.
    """
    head, _, query = location.text.partition(":")[2].partition("?")
    options = [each.partition("=") for each in query.split("&") if each]
    schemas = [unquote(value) for key, _, value in options if key == "schema"]
    schema = schemas[-1] if schemas else SCHEMA
    rest = "&".join("".join(each) for each in options if each[0] != "schema")
    try:
        given = conninfo_to_dict(f"postgresql:{head}{f'?{rest}' if rest else ''}")
    except psycopg.Error:
        # The message of libpq would repeat the password.
        remedy = "write special characters of the password as %XX, or better: set PGPASSWORD"
        raise SettingError(f"a location {_FORM}", location.name, remedy) from None
    if not schema or len(schema.encode("utf-8", "replace")) > 63 or "\0" in schema or schema.startswith("pg_"):
        raise SettingError(
            "the name of a schema, of up to 63 bytes, after schema=", repr(schema), f"as in {_FORM}"
        )
    parameters = {key: str(value) for key, value in given.items() if value is not None}
    return Address({**_DEFAULTS, **parameters}, schema, location.name)
