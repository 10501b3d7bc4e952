"""What a run over files and documents did, and what of them it did not read: nothing is lost without a word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from mixrag.corpus.parsers.result import Notice, Skipped

_EXAMPLES = 3
_PLURAL = frozenset({"hidden files", "hidden folders"})
_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ReportedNotice:
    """What was read only in part, or by a guess: all notices of one kind."""

    kind: str
    """"pages without text", "images", "guessed encodings", ..."""
    count: int
    """How many of them in all files."""
    files: int
    """In how many files."""
    examples: tuple[tuple[str, str], ...]
    """Path and detail of the first of these files, at most three."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a run of ``RAG.index`` or ``RAG.add`` did."""

    documents: int
    """Documents in the store after the run."""
    passages: int
    """Passages in the store after the run."""
    added: int
    """Passages that are new."""
    removed: int
    """Passages that were removed."""
    embedded: int
    """Vectors computed in this run."""
    unchanged: int
    """Files, or documents from memory, that were stored already and have not changed."""
    skipped: tuple[Skipped, ...] = ()
    """Files that could not be read, and records that could not be used."""
    left_out: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    """Files in the folders that no parser reads, by suffix (".log"), "without suffix", "hidden files" or "hidden
    folders"."""
    notices: tuple[ReportedNotice, ...] = ()
    """What was read only in part, or by a guess, of changed and of unchanged files, by kind."""
    too_long: int = 0
    """New passages that are longer than the encoder reads: the rest of them is not in their vectors."""
    token_limit: int | None = None
    """How many tokens of a passage the encoder reads; None: all, or it is not known."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract of ``mixrag index --json`` (docs/reference/json.md)."""
        names = ("documents", "passages", "added", "embedded", "removed", "unchanged", "too_long")
        notices = [
            {**asdict(each), "examples": [{"path": path, "detail": detail} for path, detail in each.examples]}
            for each in self.notices
        ]
        return {
            **{name: getattr(self, name) for name in names},
            "left_out": dict(self.left_out),
            "notices": notices,
            "skipped": [asdict(each) for each in self.skipped],
        }


def aggregated(found: Iterable[tuple[str, Notice]]) -> tuple[ReportedNotice, ...]:
    """Notices, each with the path of its file, by kind in the order of the alphabet.

    >>> aggregated([("b.pdf", Notice("images", 2)), ("a.pdf", Notice("images", 1, "one"))])
    (ReportedNotice(kind='images', count=3, files=2, examples=(('a.pdf', 'one'), ('b.pdf', ''))),)
    """
    kinds: dict[str, list[tuple[str, Notice]]] = {}
    for path, notice in found:
        kinds.setdefault(notice.kind, []).append((path, notice))
    return tuple(_reported(kind, kinds[kind]) for kind in sorted(kinds))


def kinds_in_words(left_out: Mapping[str, int]) -> str:
    """Kinds of files with their numbers, the largest first.

    >>> kinds_in_words({".gz": 2, ".log": 3, "without suffix": 1, "hidden files": 1})
    '3 .log, 2 .gz, 1 hidden file, 1 without suffix'
    """
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(
        f"{n} {kind.removesuffix('s') if n == 1 and kind in _PLURAL else kind}" for kind, n in ordered
    )


def _reported(kind: str, found: list[tuple[str, Notice]]) -> ReportedNotice:
    examples = sorted({path: notice.detail for path, notice in reversed(found)}.items())
    count = sum(notice.count for _, notice in found)
    return ReportedNotice(kind, count, len(examples), tuple(examples[:_EXAMPLES]))
