"""Changes of uploads, killed at every step in turn; run by test_killed_uploads.py in a process of its own.

A change runs in a forked process, which kills itself (SIGKILL) before the n-th call that changes the disk. Then
the store is opened again, and what is there is printed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixrag import RAG
from mixrag.corpus import Store
from mixrag.corpus.store.sqlite import changes
from mixrag.server.native.uploads import Uploads
from words_encoder import WordsEncoder

FIRST, SECOND, OTHER = "The first version.", "The second version.", "Another file."
UNREADABLE = b"\0\1\2" * 100


def opened(directory: Path) -> RAG:
    return RAG(Store.open(directory, create=True), encoder=WordsEncoder())


def arrived(uploads: Uploads, **files: str | bytes) -> dict[str, Path]:
    """Files that have arrived, by name; an underscore stands for the dot."""
    found = {}
    for name, content in files.items():
        path = uploads.new_file()
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found[name.replace("_", ".")] = path
    return found


def replaced(uploads: Uploads) -> None:
    uploads.add(arrived(uploads, a_txt=SECOND, b_txt=OTHER))


def replaced_by_what_cannot_be_read(uploads: Uploads) -> None:
    uploads.add(arrived(uploads, a_txt=UNREADABLE))


def deleted(uploads: Uploads) -> None:
    uploads.delete(str(uploads.folder / "a.txt"))


CHANGES: dict[str, Callable[[Uploads], None]] = {
    each.__name__: each for each in (replaced, replaced_by_what_cannot_be_read, deleted)
}


def main(directory: Path) -> None:
    found = []
    for name, change in CHANGES.items():
        for step in range(1, 1000):
            store = directory / f"{name}-{step}"
            with opened(store) as rag:
                uploads = Uploads(rag)
                uploads.add(arrived(uploads, a_txt=FIRST))
            killed = _killed_at(step, change, store)
            found.append({"change": name, "killed": killed, **_after_restart(store)})
            if not killed:
                break
    sys.stdout.write(json.dumps(found))


def _killed_at(step: int, change: Callable[[Uploads], None], store: Path) -> bool:
    child = os.fork()
    if child == 0:
        with opened(store) as rag:
            _kill_before_call(step)
            change(Uploads(rag))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


def _kill_before_call(number: int) -> None:
    """Kill this process before its n-th call of what changes the disk."""
    calls = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)

        return call

    for owner, names in (
        (Path, ("replace", "unlink", "touch", "mkdir")),
        (RAG, ("index",)),
        (changes, ("replace_file", "set_meta", "remove_document", "bump_generation", "drop_orphan_vectors")),
        (os, ("fsync",)),
    ):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))


def _after_restart(store: Path) -> dict[str, Any]:
    """What was there, and what is there once it has been settled."""
    with opened(store) as rag:
        uploads = Uploads(rag)
        uploads.settle()
        files = {each.name: each.read_text() for each in uploads.folder.iterdir() if each.is_file()}
        marks = [each.name for each in uploads.folder.glob(".[pdf]*/*")]
        stored = {}
        for each in rag.store.documents():
            row = rag.store.document_row(each.path)
            assert row is not None
            stored[Path(each.path).name] = "".join(passage.text for passage in rag.store.passages_of(row))
    files.pop(".lock", None)
    return {"files": files, "stored": stored, "marks": marks}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
