"""A store in a folder: objects are files, the write lock is one that the system frees when its holder dies."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mixrag.corpus.store import locks
from mixrag.corpus.store.lance.place import Check, ExistsError, Place, in_one_line
from mixrag.corpus.store.location import Location
from mixrag.errors import StoreError


class FolderPlace(Place):
    """See ``Place``."""

    can_lose_lock = False

    def __init__(self, location: Location) -> None:
        self.location, self.path = location, Path(location.rest)
        self.uri, self.options = str(self.path), {}

    def names(self, folder: str, after: str = "") -> list[str]:
        """See ``Place.names``."""
        try:
            found = os.listdir(self.path / folder)  # noqa: PTH208 - called before every read
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if name > after and not name.startswith("."))

    def read(self, folder: str, name: str) -> bytes | None:
        """See ``Place.read``."""
        try:
            return (self.path / folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, folder: str, name: str, content: bytes) -> None:
        """See ``Place.create``: a file that is whole gets a second name, which must be new."""
        temporary, final = self._temporary(folder, content), self.path / folder / name
        try:
            os.link(temporary, final)
        except FileExistsError as error:
            raise ExistsError(name) from error
        except OSError as error:  # a file system without links
            if not self.path.is_dir() or final.exists():
                raise ExistsError(name) from error
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)

    def replace(self, folder: str, name: str, content: bytes) -> None:
        """See ``Place.replace``."""
        self._temporary(folder, content).replace(self.path / folder / name)

    def _temporary(self, folder: str, content: bytes) -> Path:
        path = self.path / folder / f".{secrets.token_hex(8)}"
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return path

    def delete(self, folder: str, names: list[str]) -> None:
        """See ``Place.delete``."""
        own = self.path / folder
        for path in [*(own / name for name in names), *own.glob(".*")]:
            path.unlink(missing_ok=True)

    def entries(self) -> list[str]:
        """See ``Place.entries``."""
        try:
            return sorted(path.name for path in self.path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def prepare(self) -> None:
        """See ``Place.prepare``."""
        try:
            (self.path / "catalogue").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            found = error.strerror or type(error).__name__
            raise StoreError(f"a folder {self.path}", found, "name another one with --store") from error

    @contextmanager
    def lock(self, timeout: float) -> Iterator[Check]:
        """See ``Place.lock``; it cannot be lost."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locks.exclusive(self.path / "index.lock", timeout))
            except TimeoutError as error:
                raise self.busy() from error
            except locks.DamagedLockError as error:
                raise StoreError(f"a lock of the store in {error.path}", "something else", error.remedy) from error
            except OSError as error:
                raise self.explain(error) from error
            yield lambda: None

    def now(self) -> float:
        """See ``Place.now``: the file system may be one of another machine."""
        with self.errors():
            temporary = self._temporary("catalogue", b"")
            try:
                return temporary.stat().st_mtime
            finally:
                temporary.unlink(missing_ok=True)

    def explain(self, error: Exception) -> StoreError:
        """See ``Place.explain``."""
        remedy = "check free space and permissions there"
        return StoreError(f"a usable store in {self.location.name}", in_one_line(error), remedy)
