"""Changed files to their documents, one file ahead: a process parses the next while this one embeds."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mixrag.corpus.parsers.isolation import ParseLimits, Worker, borrowed_worker
from mixrag.corpus.parsers.registry import ParserRegistry
from mixrag.corpus.parsers.result import ParseResult, UnreadableError


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file to parse."""

    path: Path
    sha256: str
    """Of ``data``, and of the name of the caller's parser that reads it."""
    data: bytes
    """What was hashed is what is parsed."""


def parsed(
    files: Iterable[ChangedFile], parsers: ParserRegistry, limits: ParseLimits
) -> Generator[tuple[ChangedFile, ParseResult | UnreadableError]]:
    """Each file with its documents, or with the reason why it has none, in the given order.

    Built-in parsers run in a process of their own, those of the caller in this one. The generator must be closed.

    Raises:
        SourceError: no process can be started.
    """
    with ExitStack() as stack:
        worker: Worker | None = None
        before: tuple[ChangedFile, Callable[[], ParseResult | UnreadableError]] | None = None
        for file in files:
            finished = before and (before[0], before[1]())
            if parsers.is_builtin(file.path):
                worker = worker or stack.enter_context(borrowed_worker())
                worker.submit(str(file.path), file.data, limits)
                before = (file, _attempt(worker.collect))
            else:
                before = (file, _attempt(_in_process(parsers, file)))
            if finished:
                yield finished
        if before:
            yield before[0], before[1]()


def _in_process(parsers: ParserRegistry, file: ChangedFile) -> Callable[[], ParseResult]:
    return lambda: parsers.parse(file.path, file.data)


def _attempt(read: Callable[[], ParseResult]) -> Callable[[], ParseResult | UnreadableError]:
    def attempt() -> ParseResult | UnreadableError:
        try:
            return read()
        except UnreadableError as error:
            return error

    return attempt
