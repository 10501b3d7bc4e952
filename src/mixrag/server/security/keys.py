"""API keys: a file of their names and hashes."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mixrag.errors import OutputError, SettingError
from mixrag.utils.atomic import write_atomically

_LOG = logging.getLogger("mixrag.server")
PREFIX = "mixrag_"
"""Of every key, so that one that is pasted somewhere can be recognised."""
LONGEST = 256
"""Bytes of a key that a client sends; a longer one is none of ours."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What is stored of a key: not the key."""

    name: str
    created: str
    salt: str
    hash: str


class KeyFile:
    """Keys by name, in a JSON file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._keys: list[StoredKey] = []
        self._lock = threading.Lock()

    def stored(self) -> list[StoredKey]:
        """All keys, in the order in which they were added; none where there is no file.

        Raises:
            SettingError: the file is no file of keys, or others may write it.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SettingError(
                "a file of keys", f"{self.path}: {error.strerror}", "give another --file"
            ) from error
        self._check_mode()
        try:
            return [_checked(StoredKey(**each)) for each in json.loads(content)["keys"]]
        except (ValueError, TypeError, KeyError) as error:
            expected = "a file that mixrag keys add wrote"
            raise SettingError(expected, str(self.path), "add the keys again to a new file") from error

    def add(self, name: str) -> str:
        """A new key of this name. It is nowhere stored: show it now.

        Raises:
            SettingError: a name that is taken, or no name.
            OutputError: the file cannot be written.
        """
        if not _NAME.fullmatch(name):
            expected = "a name of at most 64 letters, digits, dots, hyphens and underscores"
            raise SettingError(expected, repr(name[:80]), "for instance: mixrag keys add alice --file keys.json")
        found = self.stored()
        if any(each.name == name for each in found):
            raise SettingError("a name that is not taken", name, f"mixrag keys remove {name} first")
        key, salt = f"{PREFIX}{secrets.token_urlsafe(32)}", secrets.token_hex(16)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        self._write([*found, StoredKey(name, created, salt, _hash(key.encode(), salt))])
        return key

    def remove(self, name: str) -> None:
        """Delete a key; a server that is running refuses it from then on.

        Raises:
            SettingError: there is none of this name.
            OutputError: the file cannot be written.
        """
        found = self.stored()
        left = [each for each in found if each.name != name]
        if len(left) == len(found):
            raise SettingError(f"the name of a key in {self.path}", repr(name[:80]), "see: mixrag keys list")
        self._write(left)

    def name_of(self, key: bytes) -> str | None:
        """Whose key this is; None: nobody's. A file that has changed is read again."""
        if not 0 < len(key) <= LONGEST:
            return None
        found = None
        # No early end, so that the time does not say which name a guess comes close to.
        for each in self._current():
            if hmac.compare_digest(_hash(key, each.salt), each.hash):
                found = each.name
        return found

    def _current(self) -> list[StoredKey]:
        with self._lock:
            try:
                status = self.path.stat()
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
                if seen != self._seen:
                    self._keys, self._seen = self.stored(), seen
            except (OSError, SettingError) as error:
                if self._keys or self._seen is None:
                    _LOG.error("no key is accepted: %s", error)
                self._keys, self._seen = [], ()
            return self._keys

    def _check_mode(self) -> None:
        if os.name == "posix" and self.path.stat().st_mode & 0o022:
            expected = f"{self.path} to be written by its owner only"
            raise SettingError(expected, "others may write it", f"run: chmod 600 {self.path}")

    def _write(self, keys: list[StoredKey]) -> None:
        content: dict[str, Any] = {"version": 1, "keys": [asdict(each) for each in keys]}
        try:
            write_atomically(self.path, json.dumps(content, indent=1).encode() + b"\n", private=True)
        except OSError as error:
            found = f"{self.path}: {error.strerror}"
            raise OutputError("a file of keys that can be written", found, "give another --file") from error


def _checked(key: StoredKey) -> StoredKey:
    if not _NAME.fullmatch(key.name) or len(bytes.fromhex(key.salt)) != 16 or len(bytes.fromhex(key.hash)) != 32:
        raise ValueError(key.name)
    return key


def _hash(key: bytes, salt: str) -> str:
    """BLAKE2b of a key.

    A fast hash is right here: a key is 256 random bits, so there is nothing to guess, whatever a guess costs. Slow
    hashes (scrypt, Argon2) protect passwords that people choose, and would let anybody keep the server busy.
    """
    salted = hashlib.blake2b(key, digest_size=32, salt=bytes.fromhex(salt), person=b"mixrag-api-key")
    return salted.hexdigest()
