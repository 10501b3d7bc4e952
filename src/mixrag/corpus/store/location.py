"""How a store is named: a folder, or a scheme and what it needs; passwords are never shown."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mixrag.utils.user_cache import cache_folder

FOLDER = "folder"
"""The scheme of a store in a folder, which is named by its path alone."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # one letter is a drive of Windows
_CREDENTIALS = re.compile(r"(?<=//)([^:/@]*):.*@", re.DOTALL)
_NEXT = re.compile(r"(?<=,)(?=\s*[A-Za-z][A-Za-z0-9+.-]*://)")
"""Where the next address of a list begins; a comma elsewhere may be part of a password."""
_SECRET = re.compile(r"([?&;][^=&;]*(?:password|passwd|secret|token|key)[^=&;]*=)[^&;]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is; ``repr`` and ``name`` show no password."""

    scheme: str
    """Lower case: ``FOLDER``, "lance", "s3", "postgresql"; not necessarily one that has a backend."""
    text: str = field(repr=False)
    """What opens it again, as it was given; of a folder, its absolute path."""
    name: str
    """``text`` without its password: what messages show, and what a command line takes as --store."""

    @property
    def rest(self) -> str:
        """What comes after the scheme and its colon; of a folder, its path."""
        return self.text if self.scheme == FOLDER else self.text.partition(":")[2]


def parse_location(given: str | os.PathLike[str]) -> Location:
    """What a location means. A path object is a folder, whatever its name.

    >>> parse_location("postgresql://ann:secret@db.example/acts").name
    'postgresql://ann:***@db.example/acts'
    >>> parse_location("lance:/data/acts").rest
    '/data/acts'
    """
    found = _SCHEME.match(given) if isinstance(given, str) else None
    if found is None or not (given[found.end() :].startswith("//") or _is_plain(found[1])):  # type: ignore[index]
        path = str(Path(given).absolute())
        return Location(FOLDER, path, path)
    scheme, text = found[1].lower(), str(given)
    if scheme == "lance":
        text = f"lance:{Path(text[found.end() :]).absolute()}"
    return Location("postgresql" if scheme == "postgres" else scheme, text, without_password(text))


def without_password(text: str) -> str:
    """A location as it may be shown: passwords and other secrets are stars.

    >>> without_password("postgresql://ann@db/acts?sslmode=require&password=x")
    'postgresql://ann@db/acts?sslmode=require&password=***'
    >>> without_password("postgresql://a:p@h1/x,postgresql://b:q@h2/y")
    'postgresql://a:***@h1/x,postgresql://b:***@h2/y'
    """
    return "".join(_SECRET.sub(r"\1***", _CREDENTIALS.sub(r"\1:***@", each)) for each in _NEXT.split(text))


def cache_of(location: Location) -> Path:
    """The local folder for what is derived from a store elsewhere: index files, postings, precomputed passages.

    Below the user's cache folder, by a hash of the name: another password is the same store. All but the files
    that a server received ("uploads") can be deleted at any time. Where it cannot be made, whoever writes there
    says so.
    """
    digest = hashlib.sha256(location.name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    folder = cache_folder() / "stores" / digest
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _is_plain(scheme: str) -> bool:
    """Schemes that need no slashes: any other text with a colon is the name of a folder."""
    return scheme.lower() == "lance"
