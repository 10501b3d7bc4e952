"""Passages that follow the structure of a document, measured in tokens of the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from mixrag.corpus.passage import Block, Document
from mixrag.corpus.splitters.outline import Outline
from mixrag.corpus.splitters.packing import Unit, measured, packed
from mixrag.corpus.splitters.paragraphs import complete
from mixrag.corpus.splitters.protocol import Context, Offsets, checked_context
from mixrag.corpus.splitters.sentences import ends_sentence, sentences, trimmed
from mixrag.corpus.splitters.tokens import ESTIMATED, Tokens
from mixrag.corpus.splitters.words import check_size

_LIKE_A_HEADING = 80
"""Characters of a line without a full stop."""
_MARGIN = 4
"""Tokens that joining texts may add to the sum of theirs."""


@dataclass(frozen=True, slots=True)
class StructureSplitter:
    """Disjoint passages of at most ``size`` tokens: whole sentences, rows of tables, list items, lines of code.

    A heading begins a passage, and is never alone at its end. Small blocks under one heading are joined. A passage
    ends with its page, slide or sheet, unless a sentence goes on. Only what is longer than a passage is divided.

    >>> StructureSplitter(8).split("One sentence is here. Another one follows.")
    [(0, 21), (22, 42)]
    """

    size: int = 200
    """Tokens; fewer where the encoder would not read so many after title and context."""
    tokens: Tokens | None = None
    """The encoder's; None: those of the encoder of the store, or an estimate where it has none."""
    context: Context = "full"
    """See ``Context``."""

    def __post_init__(self) -> None:
        check_size(self.size, "token", "structure:200")
        checked_context(self.context)

    @property
    def name(self) -> str:
        counted = self.tokens.name if self.tokens else ""
        return f"structure:{self.size} {counted}".rstrip()

    def split(self, text: str) -> list[Offsets]:
        return self.split_document(Document(text))

    def split_document(self, document: Document) -> list[Offsets]:
        """Spans of the passages; see ``Splitter``."""
        text, tokens = document.text, self.tokens or ESTIMATED
        outline = Outline(document, self.context)
        rooms: dict[str, int] = {}
        spans: list[Offsets] = []
        largest = self._room(tokens, outline.title_read)
        for section in _sections(text, complete(text, document.blocks), largest, tokens):
            front = outline.longest_front(section.units[0].start, section.units[-1].end, section.captions)
            if front not in rooms:
                rooms[front] = self._room(tokens, front)
            spans += packed(*_fitted(text, section, rooms[front], tokens), rooms[front])
        return spans

    def _room(self, tokens: Tokens, front: str) -> int:
        """Tokens of a passage before which the encoder reads this text."""
        if tokens.limit is None:
            return self.size
        read = tokens.counts([front])[0] + _MARGIN if front else 0
        return min(self.size, max(tokens.limit - read, tokens.limit // 3, 1))


@dataclass(slots=True)
class _Section:
    """What lies between two places where a passage must end."""

    page: tuple[int | None, str]
    units: list[Unit] = field(default_factory=list)
    headings: int = 0
    """How many units at its beginning are headings."""
    captions: list[str] = field(default_factory=list)
    open: bool = False
    """Its last sentence has no end."""


def _fitted(text: str, section: _Section, room: int, tokens: Tokens) -> tuple[list[Unit], int]:
    """The units of a section, none above ``room`` tokens, and how many at its beginning are headings.

    The first one after the headings fits beside them.
    """
    heads, rest = section.units[: section.headings], section.units[section.headings :]
    if any(unit.size > room for unit in section.units):
        heads, rest = (list(chain(*measured(text, units, room, tokens))) for units in (heads, rest))
    beside = room - sum(unit.size for unit in heads)
    if heads and rest and rest[0].size > beside >= room / 4:
        rest[:1] = chain(*measured(text, rest[:1], beside, tokens))
    return heads + rest, len(heads)


def _sections(text: str, blocks: Iterable[Block], limit: int, tokens: Tokens) -> Iterator[_Section]:
    current: _Section | None = None
    for block, units in _with_units(text, blocks, limit, tokens):
        page = (block.page, block.place)
        if current is None:
            current = _Section(page)
        elif len(current.units) > current.headings:  # not headings alone
            if page != current.page:
                if current.open and block.kind == "text" and _goes_on(text, block):
                    current.units.append(units.pop(0))
                    current.units[-1].last = not units
                yield current
                current = _Section(page)
                if not units:
                    continue
            elif block.kind == "heading":
                yield current
                current = _Section(page)
        current.page = page
        current.units += units
        current.open = block.kind == "text" and not ends_sentence(text[block.start : block.end])
        if block.kind == "heading":
            current.headings = len(current.units)
        if block.caption:
            current.captions.append(block.caption)
    if current is not None and current.units:
        yield current


def _with_units(
    text: str, blocks: Iterable[Block], limit: int, tokens: Tokens
) -> Iterator[tuple[Block, list[Unit]]]:
    waiting: deque[tuple[Block, int]] = deque()

    def units() -> Iterator[Unit]:
        for block in blocks:
            own = list(_units(text, block))
            own[-1].last, own[-1].leads = True, block.kind == "text" and _leads(text[block.start : block.end])
            waiting.append((block, len(own)))
            yield from own

    parts = measured(text, units(), limit, tokens)
    taken: list[Unit] = []
    count = 0
    for each in parts:
        taken += each
        count += 1
        if count == waiting[0][1]:
            block, _ = waiting.popleft()
            if taken:
                yield block, taken
            taken, count = [], 0


def _units(text: str, block: Block) -> Iterator[Unit]:
    """Sentences of a paragraph, lines of a list, a table or code; a heading is one unit."""
    if block.kind == "heading":
        yield Unit(block.start, block.end)
    elif block.kind == "text":
        yield from (Unit(*span) for span in sentences(text, block.start, block.end))
    else:
        start = block.start
        while start < block.end:
            stop = text.find("\n", start, block.end)
            stop = block.end if stop < 0 else stop
            if span := trimmed(text, start, stop):
                yield Unit(*span)
            start = stop + 1


def _leads(paragraph: str) -> bool:
    """Whether a paragraph belongs to what follows: it ends with a colon, or is a heading by its looks."""
    if "\n" in paragraph:
        return False
    return paragraph.endswith((":", "：")) or (len(paragraph) <= _LIKE_A_HEADING and not ends_sentence(paragraph))


def _goes_on(text: str, block: Block) -> bool:
    """Whether a block continues a sentence: it begins with a small letter, or a script without capitals."""
    first = text[block.start]
    return first.isalpha() and not first.isupper() and not first.istitle()
