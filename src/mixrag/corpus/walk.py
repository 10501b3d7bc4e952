"""Files below a folder, in one order on every machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mixrag.corpus.parsers.result import Skipped
from mixrag.utils.text import unicode_path


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What a folder contains."""

    files: tuple[Path, ...]
    """Absolute paths of the files with these suffixes, sorted."""
    skipped: tuple[Skipped, ...]
    """Folders that could not be listed, links that lead nowhere, pipes and devices."""
    left_out: Mapping[str, int]
    """Files of other kinds, by suffix (in lower case), "without suffix", "hidden files" or "hidden folders"."""


def find_files(folder: Path, suffixes: Collection[str]) -> FoundFiles:
    """Files of these suffixes (in lower case) below a folder; hidden files and folders are left out.

    Links to folders are followed, and no folder is entered twice, so that loops end.
    """
    walk = _Walk(suffixes)
    walk.enter(absolute(folder))
    # Real folders come first: what is reachable without a link has its own path.
    while walk.links:
        walk.enter(min(walk.links))
    skipped = sorted(walk.skipped, key=lambda s: s.path)
    return FoundFiles(tuple(sorted(walk.files)), tuple(skipped), dict(sorted(walk.left_out.items())))


def absolute(path: Path) -> Path:
    """Absolute path without '..', links left as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve would replace the links


def storable(path: Path) -> str | None:
    """Path as a string, or None where the file's name is not Unicode text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return None
    return str(path)


class _Walk:
    def __init__(self, suffixes: Collection[str]) -> None:
        self.suffixes = suffixes
        self.files: list[Path] = []
        self.skipped: list[Skipped] = []
        self.links: set[Path] = set()
        self.left_out: Counter[str] = Counter()
        self._entered: set[tuple[int, int]] = set()

    def enter(self, root: Path) -> None:
        """Walk one tree of real folders; links to folders wait for a walk of their own."""
        self.links.discard(root)
        waiting = [root]
        while waiting:
            waiting += self._list(waiting.pop())

    def _list(self, folder: Path) -> list[Path]:
        """Real folders inside ``folder``, whose files are taken; empty where it was entered before."""
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self._entered:
                return []
            self._entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if not self._hidden(entry)]
        except OSError as error:
            reason = f"expected a readable folder; found {error.strerror}; check its permissions"
            self.skipped.append(Skipped(unicode_path(folder), reason))
            return []
        return [Path(entry.path) for entry in visible if self._take(entry)]

    def _hidden(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is hidden; those that would have been read are counted."""
        hidden = entry.name.startswith(".")
        if hidden and entry.is_dir():
            self.left_out["hidden folders"] += 1
        elif hidden and Path(entry.name).suffix.lower() in self.suffixes:
            self.left_out["hidden files"] += 1
        return hidden

    def _take(self, entry: os.DirEntry[str]) -> bool:
        """Whether the entry is a real folder to read next; files and links are noted."""
        path = Path(entry.path)
        try:
            if entry.is_dir():
                if entry.is_symlink():
                    self.links.add(path)
                return not entry.is_symlink()
            if path.suffix.lower() in self.suffixes:
                self._take_file(entry, path)
            else:
                self.left_out[unicode_path(path.suffix.lower()) or "without suffix"] += 1
        except OSError as error:
            self.skipped.append(
                Skipped(unicode_path(path), f"expected a file; found {error.strerror}; correct the link")
            )
        return False

    def _take_file(self, entry: os.DirEntry[str], path: Path) -> None:
        if storable(path) is None:
            reason = "expected a file name in UTF-8; found other bytes; rename it"
            self.skipped.append(Skipped(unicode_path(path), reason))
        elif entry.is_file():
            self.files.append(path)
        elif entry.is_symlink() and not path.exists():
            reason = "expected a file; found a link that leads nowhere; correct or delete the link"
            self.skipped.append(Skipped(str(path), reason))
        else:
            reason = "expected a regular file; found a pipe, socket or device; leave it out"
            self.skipped.append(Skipped(str(path), reason))
