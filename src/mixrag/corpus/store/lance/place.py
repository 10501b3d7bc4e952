"""Where a store's files are, beside its Lance tables: small objects that are created once, and the write lock."""

from __future__ import annotations

import errno
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from mixrag.corpus.store.location import Location
from mixrag.errors import MixragError, StoreBusyError, StoreError, StoreFullError, StoreMissingError

Check = Callable[[], None]
"""Raises StoreBusyError where the write lock was lost."""
_SOURCE = re.compile(r",? *\S*/(registry/src|rustc)/\S*|LanceError\(\w+\): *|lance error: *")
_LONGEST = 200


class ExistsError(Exception):
    """An object that was to be created is there already."""


class Place(ABC):
    """A folder, or a prefix of a bucket."""

    location: Location
    uri: str
    """What LanceDB opens."""
    options: Mapping[str, str]
    """Its storage options; no credentials."""
    can_lose_lock: bool
    """Whether another one may take the write lock of a holder that stands still."""

    @abstractmethod
    def names(self, folder: str, after: str = "") -> list[str]:
        """The names, sorted, of the objects in a folder of the place that come after this one; not of temporary
        ones, and none where the folder is not there.
        """

    @abstractmethod
    def read(self, folder: str, name: str) -> bytes | None:
        """The content of an object; None where there is none."""

    @abstractmethod
    def create(self, folder: str, name: str, content: bytes) -> None:
        """Write an object, all of it or nothing.

        Raises:
            ExistsError: it is there already.
        """

    @abstractmethod
    def replace(self, folder: str, name: str, content: bytes) -> None:
        """Write an object, all of it or nothing, whether it is there or not."""

    @abstractmethod
    def delete(self, folder: str, names: list[str]) -> None:
        """Delete objects; what is not there is ignored. Temporary ones that writers left go too."""

    @abstractmethod
    def entries(self) -> list[str]:
        """The names of files and folders directly in the place; none where it is not there."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what must be there before a store can be created."""

    @abstractmethod
    def lock(self, timeout: float) -> AbstractContextManager[Check]:
        """Have the write lock.

        Raises:
            StoreBusyError: another one did not release it for ``timeout`` seconds.
        """

    @abstractmethod
    def now(self) -> float:
        """Seconds since 1970 by the clock of the place, which all writers have in common."""

    @abstractmethod
    def explain(self, error: Exception) -> StoreError:
        """What an exception of the system or of LanceDB means."""

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn exceptions of the system, of LanceDB and of a server of objects into StoreErrors."""
        try:
            yield
        except (MixragError, ExistsError):
            raise
        except Exception as error:
            if _is_full(error):
                raise self._full(error) from error
            raise self.explain(error) from error

    def busy(self) -> StoreBusyError:
        """Another one has the lock."""
        remedy = "wait until the other mixrag process has ended, then run this again"
        return StoreBusyError(f"the write lock of {self.location.name}", "another process holding it", remedy)

    def lost(self) -> StoreBusyError:
        """The lock went to another one, since this process stood still for too long."""
        found = "another process that took it, since this one did not renew it in time"
        return StoreBusyError(f"the write lock of {self.location.name}", found, "run this again")

    def missing(self) -> StoreMissingError:
        """There is no store."""
        name = self.location.name
        return StoreMissingError(f"a store in {name}", "none", f"run: mixrag index PATH --store {name}")

    def _full(self, error: Exception) -> StoreFullError:
        remedy = "check free space there, then run this again"
        return StoreFullError(f"space for the store in {self.location.name}", in_one_line(error), remedy)


def in_one_line(error: Exception) -> str:
    """The message of an exception without line ends and paths of its library's sources."""
    text = " ".join(_SOURCE.sub("", str(error)).split())
    return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…") or type(error).__name__


def _is_full(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)
