"""What a parser left out of a document, counted by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.result import Notice, ParseResult, UnreadableError
from mixrag.corpus.passage import Scalar


class Tally:
    """Counts by kind, each with a line of detail."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.details: dict[str, str] = {}

    def add(self, kind: str, count: int = 1, detail: str = "") -> None:
        """Note that ``count`` of this kind were left out, or read by a guess."""
        if count > 0:
            self.counts[kind] += count
            if detail:
                self.details.setdefault(kind, detail)

    def extend(self, notices: Iterable[Notice]) -> None:
        """Add what another reader counted."""
        for each in notices:
            self.add(each.kind, each.count, each.detail)

    def notices(self) -> tuple[Notice, ...]:
        """One notice a kind."""
        return tuple(
            Notice(kind, count, self.details.get(kind, f"{kind} were left out"))
            for kind, count in self.counts.items()
        )


def finish(
    builder: DocumentBuilder, tally: Tally, title: str = "", metadata: Mapping[str, Scalar] | None = None
) -> ParseResult:
    """The result of a file that is one document.

    Raises:
        UnreadableError: it has no text.
    """
    document = builder.document(title, metadata)
    if not document.text.strip():
        left = "; ".join(notice.detail for notice in tally.notices())
        found = f"no extractable text ({left})" if left else "no extractable text"
        raise UnreadableError("a file with text", found, "leave it out")
    return ParseResult((document,), notices=tally.notices())
