"""Changed files to their passages, some files ahead: a process parses the next while this one embeds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mixrag.corpus.parsers.isolation import ParseLimits, Worker, borrowed_worker
from mixrag.corpus.parsers.registry import ParserRegistry
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.splitting import SplitFile, Splitting

# What may wait for its parser or its turn to be stored: small files together, a large one alone.
_AHEAD_FILES = 32
_AHEAD_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file to parse."""

    path: Path
    sha256: str
    """Of ``data``, and of the name of the caller's parser that reads it."""
    data: bytes
    """What was hashed is what is parsed."""


Read = tuple[ChangedFile, SplitFile | UnreadableError]
"""A file with its passages, or with the reason why it has none."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How files become passages."""

    parsers: ParserRegistry
    limits: ParseLimits
    splitting: Splitting

    def files(self, files: Iterable[ChangedFile]) -> Generator[Read]:
        """Each file with its passages, in the given order; to be closed.

        Raises:
            SourceError: no process can be started.
            PluginError: the splitter fails, or its spans are invalid.
        """
        with closing(parsed(files, self.parsers, self.limits)) as results:
            for file, result in results:
                if isinstance(result, UnreadableError):
                    yield file, result
                else:
                    yield file, self.splitting.file(str(file.path), result)


def parsed(
    files: Iterable[ChangedFile], parsers: ParserRegistry, limits: ParseLimits
) -> Generator[tuple[ChangedFile, ParseResult | UnreadableError]]:
    """Each file with its documents, or with the reason why it has none, in the given order.

    Built-in parsers run in a process of their own, those of the caller in this one. The generator must be closed.

    Raises:
        SourceError: no process can be started.
    """
    waiting: deque[tuple[ChangedFile, Callable[[], ParseResult]]] = deque()
    with ExitStack() as stack:
        worker: Worker | None = None
        for file in files:
            if parsers.is_builtin(file.path):
                worker = worker or stack.enter_context(borrowed_worker())
                while waiting and worker.waiting_bytes + len(file.data) > _AHEAD_BYTES:
                    yield _collected(*waiting.popleft())
                worker.submit(str(file.path), file.data, limits)
                waiting.append((file, worker.collect))
            else:
                waiting.append((file, partial(parsers.parse, file.path, file.data)))
            if len(waiting) > _AHEAD_FILES:
                yield _collected(*waiting.popleft())
        while waiting:
            yield _collected(*waiting.popleft())


def _collected(
    file: ChangedFile, read: Callable[[], ParseResult]
) -> tuple[ChangedFile, ParseResult | UnreadableError]:
    try:
        return file, read()
    except UnreadableError as error:
        return file, error
