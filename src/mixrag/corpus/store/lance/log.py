"""The commits of a store: numbered objects, each created once; a change is there with one of them, or not at all.

Now and then the whole state is written beside a commit, so that opening reads few objects, and older ones go. Of
two writers that both believe to have the write lock, one alone creates the next commit. Where the lock can be
lost, whoever takes it begins with a commit that changes nothing: one of the former holder that is still under
way either came before it, or is refused.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import zlib
from contextlib import suppress
from typing import Any

from mixrag.corpus.store.lance.catalogue import Catalogue, Operation
from mixrag.corpus.store.lance.place import Check, ExistsError, Place
from mixrag.errors import StoreCorruptError, StoreError, StoreVersionError

VERSION = 1
FOLDER = "catalogue"
_WHOLE = ".whole"
_NAME = re.compile(r"[0-9]{20}(\.whole)?")
_MANY, _MOST = 50, 500
"""Commits after which the whole state is written: where they are as large as that, and in any case."""
_ATTEMPTS = 5


class Log:
    """Reads and writes commits; the latest state that was read stays in memory."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._mutex = threading.Lock()
        self._catalogue: Catalogue | None = None
        self._whole, self._since, self._size = 0, 0, 0
        """Number of the last whole state, and bytes of the commits since and of itself."""

    def exists(self) -> bool:
        """Whether there is a store."""
        with self.place.errors():
            return bool(self._names())

    def latest(self, *, look: bool = True) -> Catalogue:
        """The state as it is now.

        Args:
            look: whether there are further commits; false: the latest that was read, if any was.

        Raises:
            StoreMissingError: there is no store.
            StoreVersionError: a newer mixrag wrote it.
            StoreCorruptError: it cannot be read.
        """
        if not look and self._catalogue is not None:
            return self._catalogue
        with self._mutex, self.place.errors():
            for _ in range(_ATTEMPTS):  # commits may be cleaned up between listing and reading
                if self._refreshed():
                    assert self._catalogue is not None
                    return self._catalogue
        raise self._corrupt("commits that vanish")

    def commit(self, draft: Catalogue, operations: list[Operation], check: Check) -> None:
        """Make a draft, which these operations made of the latest state, the latest state.

        Raises:
            StoreBusyError: another process has the lock now, or has committed.
        """
        with self._mutex, self.place.errors():
            check()
            try:
                self._create(draft, operations)
            except ExistsError as error:
                raise self.place.lost() from error

    def fence(self, check: Check) -> None:
        """Make a commit that changes nothing, so that no commit of a former holder of the lock can follow.

        Raises:
            StoreBusyError: another process has the lock now.
        """
        for _ in range(_ATTEMPTS):
            draft = self.latest().following()
            with self._mutex, self.place.errors(), suppress(ExistsError):  # the former holder's last one
                check()
                self._create(draft, [])
                return
        raise self.place.lost()

    def _create(self, draft: Catalogue, operations: list[Operation]) -> None:
        # No two commits are equal: a write that is repeated by the network is known by its content.
        content = _packed([["by", secrets.token_hex(8)], *operations])
        self.place.create(FOLDER, _name(draft.number), content)
        self._catalogue, self._since = draft, self._since + len(content)
        if self._is_long():
            with suppress(OSError, StoreError):  # the commit itself is done; the next one tries again
                self._write_whole(draft)

    def _names(self, after: str = "") -> list[str]:
        return [name for name in self.place.names(FOLDER, after) if _NAME.fullmatch(name)]

    def _is_long(self) -> bool:
        assert self._catalogue is not None
        commits = self._catalogue.number - self._whole
        return commits >= _MOST or (commits >= _MANY and self._since > self._size // 2)

    def _write_whole(self, catalogue: Catalogue) -> None:
        content = _packed(list(catalogue.operations()))
        self.place.replace(FOLDER, _name(catalogue.number) + _WHOLE, content)
        # What came before the last whole state but one is of no use to anybody.
        old = _name(self._whole)
        self.place.delete(FOLDER, [name for name in self._names() if name < old])
        self._whole, self._since, self._size = catalogue.number, 0, len(content)

    def _refreshed(self) -> bool:
        """Read what came since; false where something vanished meanwhile."""
        if self._catalogue is None:
            return self._loaded(self._names())
        # From the own commit on: a folder without it was deleted, or is far ahead.
        names = self._names(_before(self._catalogue.number))
        if not names:
            return self._loaded(self._names())
        numbers = [int(name) for name in names if not name.endswith(_WHOLE)]
        numbers = [number for number in numbers if number > self._catalogue.number]
        if numbers and numbers[0] != self._catalogue.number + 1:
            return self._loaded(self._names())
        return self._replayed(self._catalogue, numbers)

    def _loaded(self, names: list[str]) -> bool:
        """Read everything again, from the last whole state on."""
        if not names:
            if self._catalogue is not None:
                raise StoreError(f"the store in {self.place.location.name}", "it is gone", "index again")
            raise self.place.missing()
        whole = [int(name.removesuffix(_WHOLE)) for name in names if name.endswith(_WHOLE)]
        catalogue, self._whole, self._since, self._size = Catalogue(), max(whole, default=0), 0, 0
        if self._whole:
            content = self.place.read(FOLDER, _name(self._whole) + _WHOLE)
            if content is None:
                return False
            self._size, catalogue.number = len(content), self._whole
            self._apply(catalogue, content)
        numbers = [int(name) for name in names if not name.endswith(_WHOLE)]
        return self._replayed(catalogue, [number for number in numbers if number > self._whole])

    def _replayed(self, catalogue: Catalogue, numbers: list[int]) -> bool:
        if not numbers:
            self._catalogue = catalogue
            return catalogue.number > 0
        draft = catalogue.draft()
        for expected, number in enumerate(numbers, catalogue.number + 1):
            if number != expected:
                raise self._corrupt(f"no commit {expected} beside commit {number}")
            content = self.place.read(FOLDER, _name(number))
            if content is None:
                self._catalogue = None
                return False
            self._since += len(content)
            self._apply(draft, content)
            draft.number = number
        self._catalogue = draft
        return True

    def _apply(self, catalogue: Catalogue, content: bytes) -> None:
        try:
            operations = json.loads(zlib.decompress(content))
            if (version := _version(operations)) > VERSION:
                found = f"version {version} in {self.place.location.name}"
                raise StoreVersionError(f"a store of version {VERSION} or older", found, "upgrade mixrag")
            for operation in operations:
                catalogue.apply(operation)
        except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._corrupt("a damaged commit") from error

    def _corrupt(self, found: str) -> StoreCorruptError:
        name = self.place.location.name
        return StoreCorruptError(f"a mixrag store in {name}", found, "index again into a new store")


def _version(operations: Any) -> int:
    versions = [values[0].get("version", 0) for kind, *values in operations if kind == "settings"]
    return max(versions, default=0)


def _packed(operations: list[Operation]) -> bytes:
    return zlib.compress(json.dumps(operations, separators=(",", ":")).encode(), 1)


def _name(number: int) -> str:
    return f"{number:020}"


def _before(number: int) -> str:
    """A name that comes before those of this commit, and after those of the one before it."""
    return f"{number - 1:020}~"
